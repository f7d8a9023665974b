"""ContainerFunction: a function of a DAG file, run by the Python of a container."""

from __future__ import annotations

import base64
from typing import Any

from opskit.core.dag.custom_decorators import DecoratedOperator
from opskit.core.dag.operators import python_script
from opskit.core.dag.operators.python import PartOfContext, arguments_from

SCRIPT_VARIABLE = "__PYTHON_SCRIPT"
INPUT_VARIABLE = "__PYTHON_INPUT"
FOLDER = "/tmp"  # noqa: S108 - the container's own
RESULT_PATH = f"{FOLDER}/script.out"
_BEGIN = """\
import base64, os, runpy, sys
folder = {folder!r}
paths = [os.path.join(folder, name) for name in ("script.py", "script.in", {result!r}, "script.err")]
os.makedirs(os.path.dirname(paths[2]), exist_ok=True)
for path, name in zip(paths, ({script!r}, {input!r})):
    with open(path, "wb") as file:
        file.write(base64.b64decode(os.environ[name]))
sys.argv = [paths[0], paths[1], paths[2], os.devnull, paths[3]]
runpy.run_path(paths[0], run_name="__main__")
"""


class ContainerFunction(DecoratedOperator):
    """To be put before an operator that runs containers: `class My(ContainerFunction, SomeContainerOperator)`. The
    function sees what one in a virtual environment sees; its result lies, serialized, in RESULT_PATH."""

    result_as_json = False

    def __init__(
        self,
        *,
        python_command: str = "python",
        serializer: str | None = None,
        use_dill: bool = False,
        expect_airflow: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.python_command = python_command
        self.serializer = serializer or ("dill" if use_dill else "pickle")
        self.expect_airflow = expect_airflow

    def call_environment(self, context: Any) -> dict[str, str]:
        """The variables by which the container gets the function and its arguments."""
        own = dict(self.op_kwargs)
        passable = PartOfContext(context, python_script.PASSABLE_KEYS.__contains__)
        given = arguments_from(self.python_callable, tuple(self.op_args), own, passable)
        data = python_script.call_data(self.serializer, self.op_args, given, set(given.keys() - own.keys()))
        source = python_script.script(
            self.python_callable, self.serializer, self.custom_operator_name, as_json=self.result_as_json
        )
        return {
            SCRIPT_VARIABLE: base64.b64encode(source.encode()).decode(),
            INPUT_VARIABLE: base64.b64encode(data).decode(),
        }

    def call_command(self, folder: str | None = None, result: str = "script.out") -> list[str]:
        """The command of the container. No shell is needed there. `result`: a path, or a name in the folder."""
        begin = _BEGIN.format(folder=folder or FOLDER, result=result, script=SCRIPT_VARIABLE, input=INPUT_VARIABLE)
        return [self.python_command, "-c", begin]
