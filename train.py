"""python train.py model=vgg16 trainer.gpus=2: the same as `convoy train`."""

import sys

try:
    from convoy.commands.main import main
    from convoy.runtime.process_end import end_with
except ModuleNotFoundError:
    remedy = "write make train, or activate the environment first: source .venv/bin/activate"
    print(f"Convoy is not installed for {sys.executable}; {remedy}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    end_with(lambda: main(["train", *sys.argv[1:]]))
