"""Seeds one after another, each with all threads, against seeds side by side, each with its share: in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.side_by_side --data DIR --dataset imagewoof --size 128 --at-once 1 2 \\
        --set act=mish precision=bf16 channels_last=true

The seconds are those of all seeds from the call to the last result, with the start of the processes. The images are
decoded before."""
import argparse, csv, time
from pathlib import Path
from statistics import median
import torch
from woofbench.commands.prepare import plan
from woofbench.train.learner import images_of
from woofbench.train.machine import Machine, device_name
from woofbench.train.multi_seed import train_seeds
from benchmarks.row import fields, spread


def seconds(job, seeds, at_once):
    "Of all seeds, and how many of the images each has right"
    begin = time.perf_counter()
    runs = {r.seed:r.correct for r in train_seeds(job, list(range(seeds)), Machine('cpu', seeds_at_once=at_once))}
    return time.perf_counter()-begin, [runs[i] for i in range(seeds)]


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help="folder of the dataset; $WOOFBENCH_DATA if none")
    p.add_argument('--dataset', default='digits')
    p.add_argument('--size', type=int)
    p.add_argument('--epochs', type=int, default=1)
    p.add_argument('--arch', default='xresnet18')
    p.add_argument('--recipe')
    p.add_argument('--seeds', type=int, default=4)
    p.add_argument('--at-once', type=int, nargs='+', default=[1,2],
                   help='numbers of seeds at once; the first is the reference')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--set', nargs='+', default=[], metavar='FIELD=VALUE', help='fields of the recipe')
    p.add_argument('--out', type=Path, help='CSV file; lines are added to it')
    a = p.parse_args()
    job = plan(a.dataset, a.size, a.epochs, data=a.data, recipe=a.recipe, **fields(a))
    images_of(job, Machine('cpu'))
    took = {o:[] for o in a.at_once}
    for i in range(a.rounds):
        for o in a.at_once[::1 if i%2==0 else -1]:
            took[o].append((found := seconds(job, a.seeds, o))[0])
            print(f'round {i}  {o} at once  {found[0]:7.1f} s  {found[1]}', flush=True)
    ref = took[a.at_once[0]]
    rows = [dict(track=str(job.track), recipe=str(job.recipe), seeds=a.seeds, images=len(job.manifest.train), at_once=o,
                 threads_each=Machine('cpu', seeds_at_once=o).threads, seconds=round(median(took[o]), 1),
                 faster=spread([x/y for x,y in zip(ref, took[o])]), rounds=a.rounds, device=device_name('cpu'),
                 torch=torch.__version__) for o in a.at_once]
    for o in rows: print(f'{o["at_once"]} at once: {o["seconds"]:g} s, {o["faster"]} times as fast')
    if not a.out: return
    new = not a.out.exists()
    with a.out.open('a', newline='') as f:
        w = csv.DictWriter(f, list(rows[0]), lineterminator='\n')
        if new: w.writeheader()
        w.writerows(rows)


if __name__=='__main__': main()
