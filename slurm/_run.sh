# What all scripts of this folder do; they source it, with $card set and the overrides in $@.
# Written by `convoy slurm render` from conf/cluster/carc.yaml.

export PYTHONUNBUFFERED=1 # the log grows line by line
export SLURM_EXPORT_ENV=ALL # srun hands this environment on, also after sbatch --export=NONE
export NCCL_DEBUG=WARN
module purge
module load conda
python=.venv/bin/python
if [ -x ".venv-$card/bin/python" ]; then # make install TORCH=v100
    python=".venv-$card/bin/python"
fi
if ! command -v "$python" >/dev/null; then
    echo "error: no $python in $PWD: run make install there, or set cluster.python" >&2
    exit 2
fi

# Holds the allocation against the overrides, finds the run's folder by the job's id, starts the ranks
# with srun, and requeues the job where that is right. docs/cluster.md tells how.
exec "$python" -m convoy.commands.main slurm run --card "$card" --max-restarts 20 --hang-s 1800 -- "$@"
