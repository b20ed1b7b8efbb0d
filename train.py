"""python train.py model=vgg16 trainer.gpus=2: the same as `convoy train`."""

import sys

from convoy.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
