"""How a task's templated fields are rendered: only the DAG author's text, and lazy sequences become lists."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2.nativetypes import NativeEnvironment

from airflow_sb_provider._compat import AIRFLOW_PULLS_LAZILY

if TYPE_CHECKING:
    import jinja2

    from airflow_sb_provider._compat import BaseOperator, Context

_MISSING = object()


class RendersAuthorsText:
    """An operator or sensor whose mapped values from an XCom are never rendered as templates.

    Such a value may be the name of a file, which other people choose. Airflow documents that mapped values are not
    rendered, but up to 3.4.0b2 it renders those of ``expand_kwargs``. The author's text is rendered as usual: in
    ``partial``, in ``default_args``, and in lists that the DAG file passes to ``expand`` or ``expand_kwargs``.

    XComs of several mapped tasks become a list, also in the text of a template, where Airflow 2 would write
    ``LazySelectSequence([2 items])``.
    """

    _pulled: list[Any] | None = None

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value, or return it unchanged if this mapped task got it from an XCom."""
        if self._pulled is None:
            # At the first field, while all fields still have their original values.
            self._pulled = _pulled_values(self, context)  # type: ignore[arg-type]
        if any(content is value for value in self._pulled):
            return _without_laziness(content)
        if isinstance(content, list | dict) and jinja_env and not self.template_ext:  # type: ignore[attr-defined]
            marks = _template_marks(jinja_env)
            if marks and _has_no_template(content, marks):
                # Airflow renders each text by itself, also whenever the task resumes: seconds for ten thousand exports.
                return content
        if AIRFLOW_PULLS_LAZILY and isinstance(content, str):
            context = _pulling_lists(context)
        rendered = super().render_template(content, context, jinja_env, seen_oids)  # type: ignore[misc]
        return _without_laziness(rendered)


def _template_marks(env: jinja2.Environment) -> re.Pattern[str] | None:
    """Return what each text contains that rendering changes; None if that is not certain."""
    if isinstance(env, NativeEnvironment) or env.line_statement_prefix or env.line_comment_prefix:
        return None
    begins = (env.variable_start_string, env.block_start_string, env.comment_start_string)
    # Jinja also changes line ends.
    return re.compile("|".join([*map(re.escape, begins), "[\r\n]"]))


def _has_no_template(value: Any, marks: re.Pattern[str]) -> bool:
    if isinstance(value, str):
        return not marks.search(value)
    if type(value) is dict:
        return all(_has_no_template(item, marks) for item in value.values())
    if type(value) is list:
        return all(_has_no_template(item, marks) for item in value)
    return value is None or isinstance(value, int | float)


class _ListPuller:
    """A task instance whose ``xcom_pull`` returns lists instead of lazy sequences."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, *args: Any, **kwargs: Any) -> Any:
        return _without_laziness(self._ti.xcom_pull(*args, **kwargs))


def _pulling_lists(context: Context) -> Context:
    context = copy.copy(context)
    context["ti"] = context["task_instance"] = _ListPuller(context["ti"])  # type: ignore[typeddict-item]
    return context


def _without_laziness(value: Any) -> Any:
    """Return a list for a lazy sequence of XComs, which would be fetched at each use; anything else unchanged."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | list | tuple):
        return list(value)
    return value


def _pulled_values(task: BaseOperator, context: Context) -> list[Any]:
    """Return the values of a task's templated fields that mapping takes from an XCom."""
    dag = task.get_dag()
    mapped = dag.task_dict.get(task.task_id) if dag else None
    expand_input = getattr(mapped, "expand_input", None)
    if mapped is None or expand_input is None:
        return []
    source = expand_input.value
    if isinstance(source, Mapping):
        # expand(): an XCom for each field.
        names = {name for name, values in source.items() if _is_resolved_at_run_time(values)}
    elif _is_resolved_at_run_time(source) or _is_resolved_at_run_time(source[context["ti"].map_index]):
        # expand_kwargs(): the XCom may contain any field that the author did not set.
        names = {name for name in task.template_fields if not _is_written(task, name, mapped)}
    else:
        names = set()
    return [getattr(task, name) for name in task.template_fields if name in names]


def _is_resolved_at_run_time(value: object) -> bool:
    return not isinstance(value, Mapping) and hasattr(value, "resolve")


def _is_written(task: BaseOperator, name: str, mapped: Any) -> bool:
    value = getattr(task, name)
    defaults = [owner.default_args for owner in (task.get_dag(), task.task_group) if owner]
    for written in (mapped.partial_kwargs, *defaults):
        text = written.get(name, _MISSING)
        if text is value or text == value:
            return True
    return False
