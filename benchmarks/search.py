"""Which recipe is the strongest in its time? Successive halving over a written list, on exploration seeds (0, 1, ...).

    python -m benchmarks.search search-5 --data DIR --out OUT    # again goes on

All candidates are trained with one seed; the best third with a second; and so on (`RUNGS` in benchmarks/gpu_plan.py).
The first candidate is the one to beat: what takes longer to train than it does not go on. The best of the last round is
the winner, which says nothing yet: the best of many looks better than it is. Official seeds decide. """
import argparse, json
from pathlib import Path
from statistics import mean, median
from benchmarks import gpu_plan as plan

SLACK = 1.05 # seconds are measured


def fields(text):
    "Fields of a recipe from `FIELD=VALUE ...`; the last one counts"
    from woofbench.train.recipe import parse
    return {k:parse(k, v) for k,v in (o.split('=', 1) for o in text.split())}


def toy_fields(text):
    "What of a candidate a tiny network for digits can take"
    kept = [o for o in text.split() if o.split('=')[0] in plan.TOY['keep']]
    return ' '.join([plan.TOY['fields'], *kept])


def candidates(name, out, toy=False):
    "The list of a search; the one for twenty epochs begins with what won at five"
    if name=='search-5': return plan.TOY['candidates'] if toy else plan.CANDIDATES
    first = json.loads((out/'search-5.json').read_text())
    base,changes = first['winner']['fields'],plan.TOY['changes'] if toy else plan.CHANGES_20
    more = {} if toy else {'reference': plan.REFERENCE} # first: the time that counts
    return more | {k:f'{base} {v}'.strip() for k,
                   v in changes.items()} | {f'second: {o["name"]}':o['fields'] for o in first['ranking'][1:2]}


def halving(names, train, rungs, finalists, say=print):
    "Names in order of their mean accuracy, the last round's first; `train(name, seed)` gives (accuracy, seconds)"
    seen = {o:[] for o in names}
    alive,order = list(names),[]
    def score(o): return mean(a for a,_ in seen[o])
    def seconds(o): return median(s for _,s in seen[o])
    for i,n in enumerate(rungs):
        for o in alive:
            for seed in range(len(seen[o]), n): seen[o].append(train(o, seed))
        late = {o for o in alive if seconds(o)>SLACK*seconds(names[0])}
        alive.sort(key=lambda o, late=late: (o in late, -score(o)))
        order = alive + [o for o in order if o not in alive]
        say(f'round {i+1}, {n} seeds: '
            + ', '.join(f'{o} {100*score(o):.2f} %{" (too slow)" if o in late else ""}' for o in alive[:5]))
        alive = [o for o in alive if o not in late][:max(finalists, len(alive)//3)]
    return order, seen


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('name', choices=[o[0] for o in plan.SEARCHES])
    p.add_argument('--data', help='folder of Imagewoof')
    p.add_argument('--out', type=Path, required=True, help='folder for records and the result')
    p.add_argument('--toy', action='store_true', help='digits, one epoch')
    a = p.parse_args()
    from woofbench.registry import BadInput
    from woofbench.commands.run import run
    _,size,epochs = next(o for o in plan.SEARCHES if o[0]==a.name)
    if a.toy: size,epochs = plan.TOY['size'],plan.TOY['epochs']
    texts = candidates(a.name, a.out, a.toy)
    def train(name, seed):
        text = toy_fields(texts[name]) if a.toy else f'{texts[name]} {plan.FAST}'
        try:
            row = run('digits' if a.toy else 'imagewoof', size, epochs, data=None if a.toy else a.data, seeds=[seed],
                      out=a.out/'search', engine='fast', say=lambda line: None, **fields(text))
        except BadInput as e: # too large for this device, perhaps
            print(f'{name:36} seed {seed}  {e}', flush=True)
            return 0., float('inf')
        s = sum(o['train_s'] for o in row.runs[0]['curve'])
        print(f'{name:36} seed {seed}  {100*row.mean:6.2f} %  {s:7.1f} s', flush=True)
        return row.mean, s
    rungs,finalists = (plan.TOY['rungs'],plan.TOY['finalists']) if a.toy else (plan.RUNGS,plan.FINALISTS)
    order,seen = halving(list(texts), train, rungs, finalists)
    ranking = [dict(name=o, fields=texts[o], acc=[round(x, 5) for x,_ in seen[o]],
                    train_s=round(median(s for _,s in seen[o]), 2)) for o in order]
    (a.out/f'{a.name}.json').write_text(json.dumps(dict(winner=ranking[0], ranking=ranking), indent=1)+'\n')
    print(f'winner: {ranking[0]["name"]}: {ranking[0]["fields"]}')


if __name__=='__main__': main()
