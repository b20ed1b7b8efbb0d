"""python train.py model=vgg16 trainer.gpus=2: the same as `convoy train`."""

import sys

from convoy.commands.main import main
from convoy.runtime.process_end import end_with

if __name__ == "__main__":
    end_with(lambda: main(["train", *sys.argv[1:]]))
