"""Program that keeps a run's W&B record, in a process beside training. It imports nothing of Convoy.

Standard input has a line of JSON per message: first the arguments of `wandb.init` and the address of the server, then
rows, tables and summaries, then the exit code. Standard output gets one line once the record is open: its address, or
the reason why it can't be opened. Where the input ends without an exit code, training has died.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any

_CONNECT_S = 5.0


def main() -> int:
    """Open the record, write what arrives, and close it."""
    os.nice(5)  # training comes first where there are few cores
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # wandb's own output

    def answer(**values: str) -> None:
        print(json.dumps(values), file=answers, flush=True)

    first = json.loads(sys.stdin.readline())
    try:
        if first["server"] is not None:
            # wandb itself tries for more than a minute.
            socket.create_connection(first["server"], timeout=_CONNECT_S).close()
        run = _open(first["init"])
    except Exception as error:
        answer(error=_first_line(error))
        return 1
    answer(url=run.url or "")
    # Slurm sends SIGTERM to every process of a step, while training still writes its last rows.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    exit_code = 1
    try:
        for line in sys.stdin:
            message = json.loads(line)
            if "finish" in message:
                exit_code = message["finish"]
                break
            _record(run, message)
        run.finish(exit_code=exit_code)
    except Exception as error:
        answer(error=_first_line(error))
        return 1
    return 0


def _open(options: Mapping[str, Any]) -> Any:
    # wandb reads this variable where init's settings have no effect: in its service process and its state files.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    # System metrics are those of the process that trains.
    settings = wandb.Settings(console="off", silent=True, init_timeout=60, x_stats_pid=os.getppid())
    return wandb.init(**options, settings=settings)


def _record(run: Any, message: Mapping[str, Any]) -> None:
    import wandb

    if "log" in message:
        run.log(message["log"])
    for name, table in message.get("tables", {}).items():
        run.log({name: _table(wandb, name, table)})
    run.summary.update(message.get("summary", {}))
    if "pictures" in message:
        run.log(_pictures(wandb, message["pictures"]))


def _pictures(wandb: Any, path: str) -> dict[str, Any]:
    """Return the images of a mistakes.json with their targets and predictions."""
    from PIL import Image

    with open(path, encoding="utf-8") as file:  # noqa: PTH123 (this program imports little)
        content = json.load(file)
    images = []
    for entry in content["images"]:
        picture = Image.open(BytesIO(base64.b64decode(entry["image"].partition(",")[2])))
        lines = [f"target: {entry['target']}", *(f"{name}: {value}" for name, value in entry["prediction"])]
        images.append(wandb.Image(picture, caption="\n".join(lines)))
    return {f"{content['split']}/worst_predictions": images}


def _table(wandb: Any, name: str, table: Mapping[str, Any]) -> Any:
    """Return a table, or a chart if it is a matrix."""
    if not table["is_matrix"]:
        return wandb.Table(columns=table["columns"], data=table["rows"])
    predicted = table["columns"][1:]
    rows = [[row[0], column, count] for row in table["rows"] for column, count in zip(predicted, row[1:], strict=True)]
    columns = ["Actual", "Predicted", "nPredictions"]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=columns, data=rows),
        {column: column for column in columns},
        {"title": name.replace("/", " ").replace("_", " ")},
    )


def _first_line(error: BaseException) -> str:
    message = getattr(error, "strerror", None) or str(error).strip()
    return message.splitlines()[0] if message else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
