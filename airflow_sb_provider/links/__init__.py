"""Links of a task to the pages where its export can be seen."""
