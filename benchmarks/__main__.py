"""make bench: every benchmark in turn."""

from benchmarks import (
    augmentation,
    folder_loader,
    ledger_time,
    lightning_overhead,
    optimizer_step,
    planner_accuracy,
    shards,
    step_overhead,
)

if __name__ == "__main__":
    ledger_time.main()
    augmentation.main()
    folder_loader.main()
    shards.main()
    lightning_overhead.main()
    optimizer_step.main()
    step_overhead.main([])
    planner_accuracy.main([])
