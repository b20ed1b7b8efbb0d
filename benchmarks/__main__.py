"""make bench: every benchmark in turn."""

from benchmarks import lightning_overhead

if __name__ == "__main__":
    lightning_overhead.main()
