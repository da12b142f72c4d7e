"""Links from a task to the pages of its file, project, volume and destination."""
