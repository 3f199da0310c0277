"""Do both engines reach the same accuracy? Many seeds of each on handwritten digits, and two one-sided tests with a
stated margin.

    python -m benchmarks.equivalence

That is 2 x 40 seeds, about ten minutes on two cores; it writes benchmarks/results/equivalence.csv.

It can be stopped: pairs of runs that are in the file already are not trained again. The margin, 0.25 points, is chosen
before anything is trained: one of the 360 validation images is 0.28 points. """
import argparse, csv
from pathlib import Path
import torch
from woofbench.commands.prepare import plan
from woofbench.train.machine import Machine
from woofbench.train.recipe import engines
from woofbench.train.reuse import Reuse
from woofbench.board.stats.tests import equivalent
from woofbench.train.machine import device_name
from woofbench.train.learner import fit

MARGIN = .25


columns = ('engine','seed','correct','of','train_s','eval_s')


def finished(text, head):
    "Lines of the pairs that an earlier call with the same `head` has finished"
    if not text.startswith(head): return []
    rows = [o for o in csv.DictReader(text[len(head):].splitlines()) if None not in o.values()]
    return rows[:len(rows)//2*2]


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--seeds', type=int, default=40)
    p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--out', type=Path, default=Path(__file__).parent/'results'/'equivalence.csv')
    a = p.parse_args()
    job = plan('digits', epochs=a.epochs)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    a.out.parent.mkdir(parents=True, exist_ok=True)
    acc,shared = {o:[] for o in engines},Reuse()
    head = f'# {job.track}: {job.recipe}; {device_name(device)}, torch {torch.__version__}\n'
    kept = [] if not a.out.exists() else finished(a.out.read_text(), head)
    for o in kept: acc[o['engine']].append(100*int(o['correct'])/int(o['of']))
    with a.out.open('w', newline='') as f:
        f.write(head)
        w = csv.DictWriter(f, columns, lineterminator='\n')
        w.writeheader()
        w.writerows(kept)
        for seed in range(1000+len(kept)//2, 1000+a.seeds): # none of the board's own seeds
            for o in engines if seed%2 else engines[::-1]:
                run = fit(job, seed, Machine(device=device, workers=0, engine=o), reuse=shared)
                acc[o].append(100*run.correct/len(run.preds))
                w.writerow(dict(zip(columns, (o, seed, run.correct, len(run.preds),
                                              round(sum(e['train_s'] for e in run.curve), 3),
                                              round(sum(e['eval_s'] for e in run.curve), 3)))))
                f.flush()
            if seed%10==9: print(f'{seed-999} seeds: {equivalent(acc["fast"], acc["fastai"], MARGIN)}', flush=True)
    e = equivalent(acc['fast'], acc['fastai'], MARGIN)
    print(f'fast - fastai: {e["diff"]:+.3f} points, 90 % interval {e["lo"]:+.3f} to {e["hi"]:+.3f}, within {MARGIN} '
          f'points with p = {e["p"]:.2g}')


if __name__=='__main__': main()
