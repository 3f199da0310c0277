"The plan for a GPU: every recipe of it can be built, and the runner keeps its order, its budget and what is finished"
import json, signal, subprocess, sys, time
from argparse import Namespace
from functools import cache
import pytest
import torch
from conftest import root

sys.path.insert(0, str(root))
from benchmarks import equivalence, gpu, gpu_plan as plan, search  # noqa: E402
from woofbench.train.recipe import of_model, of_recipe, recipes  # noqa: E402
from woofbench.models.xresnet import build  # noqa: E402

texts = {f'row {k}':v[3] for k,v in plan.ROWS.items()} | {f'candidate {k}':f'{v} {plan.FAST}' for k,
                                                          v in plan.CANDIDATES.items(
                                                                  )} | {f'20: {k}':f'{plan.BEST_2020} {v} {plan.FAST}'
                                                                          for k,v in plan.CHANGES_20.items()}


@pytest.mark.parametrize('name', texts)
def test_recipes_build(name):
    "On no device at all, so size does not matter; forward of one small image"
    recipe = recipes('official')().but(**search.fields(texts[name]))
    assert recipe.precision=='bf16' and recipe.channels_last
    assert shape_of(recipe.model, 'whitening' not in name)==(1,10)

@cache # many recipes have the same network
def shape_of(spec, goes):
    "Of the logits of a network; of one that cannot compute without numbers, what is asked for"
    with torch.device('meta'): m = build(spec, 10, 128).eval()
    return m(torch.empty(1,3,128,128, device='meta')).shape if goes else (1,10)

def test_no_two_candidates_are_the_same():
    made = [recipes('official')().but(**search.fields(o)) for o in plan.CANDIDATES.values()]
    assert len(set(map(str, made)))==len(made)
    assert next(iter(plan.CANDIDATES.values()))==plan.REFERENCE

def args(tmp_path, **kw): return Namespace(**dict(data='DIR', out=tmp_path, minutes=1., only=None, toy=False) | kw)

def test_order_and_what_waits(tmp_path):
    a = args(tmp_path)
    got = dict(gpu.pieces(a))
    names = list(got)
    assert names[:6]==['tests','equivalence','profile','row','mish-fast','mish-fastai'] and names[-1]=='winner-80'
    assert names.index('depthwise-x6')<names.index(
            'search-5')<names.index('winner-5')<names.index('search-20')<names.index('winner-20')
    assert {k for k,v in got.items() if v is None}=={'winner-5','search-20','winner-20','winner-192','winner-80'}
    for search_ in ('search-5','search-20'):
        (tmp_path/f'{search_}.json').write_text(json.dumps(dict(winner=dict(fields='act=mish lr=4e-3'), ranking=[])))
    got = dict(gpu.pieces(a))
    assert not [k for k,v in got.items()
                if v is None] and 'lr=4e-3' in got['winner-80'] and '--official' in got['winner-80']

@pytest.mark.parametrize('toy', [False, True])
def test_commands_are_understood(tmp_path, toy):
    "By the parsers of what they call"
    from woofbench.commands.cli import make_parser
    for name,cmd in gpu.pieces(args(tmp_path, toy=toy)):
        if cmd is None or 'run' not in cmd: continue
        got = make_parser().parse_strict(cmd[cmd.index('run'):])
        recipes('official')().but(**{k:v for k,v in vars(got).items() if k in {'arch',*of_recipe,*of_model}})
        assert got.engine==('fastai' if name=='mish-fastai' else 'fast')
        assert not hasattr(got, 'seeds') or isinstance(got.seeds, int)

def quick(log): return [(o, [sys.executable, '-c', f"open({str(log)!r}, 'a').write({o!r})"]) for o in 'abc']

def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    log,said = tmp_path/'log',[]
    todo = quick(log)
    bad = ('b', [sys.executable, '-c', 'raise SystemExit("no luck")'])
    monkeypatch.setattr(gpu, 'pieces', lambda a: [todo[0], bad, todo[2]])
    assert gpu.go(args(tmp_path), said.append)==1 and log.read_text()=='ac' and any('no luck' in o for o in said)
    monkeypatch.setattr(gpu, 'pieces', lambda a: todo)
    assert gpu.go(args(tmp_path), said.append)==0 and log.read_text()=='acb'
    assert gpu.go(args(tmp_path), said.append)==0 and log.read_text()=='acb'

def test_budget_ends_a_piece_and_what_it_started(tmp_path, monkeypatch):
    slow = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); open({str(tmp_path/'pid')!r}, 'w').write(str(p.pid)); time.sleep(60)" # noqa: E501
    monkeypatch.setattr(gpu, 'pieces', lambda a: [('slow', [sys.executable, '-c', slow]), *quick(tmp_path/'log')])
    said,t = [],time.time()
    assert gpu.go(args(tmp_path, minutes=6/60), said.append)==4 and time.time()-t<30
    assert 'cut off' in said[0] and all('next time' in o for o in said[1:]) and not (tmp_path/'log').exists()
    time.sleep(.5)
    state = subprocess.run(['ps', '-o', 'stat=', '-p', (tmp_path/'pid').read_text()], capture_output=True,
                           text=True).stdout.strip()
    assert state=='' or state.startswith('Z')

def test_going_on_after_a_kill(tmp_path):
    "The runner itself is killed in the middle of a piece; the next call does that piece and the others"
    code = '''
import sys, time
from argparse import Namespace
from functools import cache
from pathlib import Path
from benchmarks import gpu
out = Path(sys.argv[1])
piece = ("import sys, time, pathlib; p = pathlib.Path(sys.argv[1]); n = len(list(p.glob('begun-*'))); "
         "(p/f'begun-{n}').touch(); time.sleep(0 if n else 60)")
gpu.pieces = lambda a: [('one', [sys.executable, '-c', piece, str(out)]), ('two', [sys.executable, '-c', ''])]
print(gpu.go(Namespace(data=None, out=out, minutes=1, only=None, toy=True)), flush=True)
'''
    p = subprocess.Popen([sys.executable, '-c', code, str(tmp_path)], cwd=root)
    t = time.time()
    while not (tmp_path/'begun-0').exists() and time.time()-t<60: time.sleep(.05)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert not list(tmp_path.glob('*.txt'))
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=root, capture_output=True, text=True,
                          timeout=120)
    assert done.stdout.strip().endswith('0') and sorted(o.name for o in tmp_path.glob('*.txt'))==['one.txt',
            'two.txt'], done.stderr

def test_halving_finds_the_best_in_time():
    "Forty candidates whose accuracies are known; the best of all is too slow, and luck in one seed does not win"
    true = {'ref':.70} | {f'c{i}':.5+i/200 for i in range(38)} | {'slow':.99}
    calls = []
    def train(o, seed):
        calls.append((o, seed))
        return true[o] + (.2 if (o,seed)==('c1',0) else 0), 100. if o=='slow' else 10.
    order,seen = search.halving(list(true), train, (1,2,4), 4, say=lambda line: None)
    assert order[0]=='ref' or true[order[0]]==max(v for k,v in true.items() if k!='slow')
    assert len(seen['slow'])==1 and len(seen[order[0]])==4 and len(seen['c0'])==1 and len(calls)==len(set(calls))<70
    assert sorted(order)==sorted(true)

def test_equivalence_goes_on_with_whole_pairs():
    head = '# digits: x\n'
    lines = 'engine,seed,correct,of,train_s,eval_s\nfast,1000,355,360,1.0,0.1\nfastai,1000,357,360,2.0,0.1\nfastai,1001,358,360,2.0,0.1\n' # noqa: E501
    assert [o['correct'] for o in equivalence.finished(head+lines, head)]==['355','357']
    assert equivalence.finished(head+lines, '# another device\n')==[] and equivalence.finished('', head)==[]
    assert len(equivalence.finished(head+lines+'fast,1001,35', head))==2
