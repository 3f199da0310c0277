"""Everything that needs a GPU, in order of value, inside a time budget: tests, timings, a profile, rows.

    python -m benchmarks.gpu --data DIR --out OUT --minutes 9       # run it again, and it goes on where it was
    python -m benchmarks.gpu --toy --out OUT                        # the same on any machine, on digits, to see that it works

Every finished piece is kept in OUT, as `NAME.txt` (what it printed) and, for rows, as records; a piece that the budget cuts off is begun again next time, a row with the seeds that are there.
"""
import argparse, subprocess, sys, time
from pathlib import Path

best = 'act=mish sa=simple_sa pool=max_blur_2020 stem_pool=max_blur_2020 block=reduce_first stem_szs=32,64,64'
fast = 'precision=bf16 channels_last=true'
leader = 'arch=xresnet_dw pool=max_blur_2020 act=mish sa=simple_sa'

# Size, epochs and fields of a row; the order is that of their value
ROWS = {
    'official-fast':   (128, 5, f'act=mish {fast}'),
    'ssa':             (128, 5, f'act=mish sa=simple_sa {fast}'),
    'two-at-once':     (128, 5, f'act=mish {fast} seeds-at-once=2'),
    'three-at-once':   (128, 5, f'act=mish {fast} seeds-at-once=3'),
    'relu':            (128, 5, f'act=relu {fast}'),
    'ladder-blur':     (128, 5, f'act=mish sa=simple_sa pool=max_blur_2020 stem_pool=max_blur_2020 {fast}'),
    'ladder-reduce':   (128, 5, f'{best} {fast}'),
    'depthwise-x4':    (128, 5, f'{leader} block=dw_x4 stem=dw_x4 {fast}'),
    'official-fastai': (128, 5, 'act=mish engine=fastai precision=fp16'),
    'twist':           (128, 5, f'{best} conv=twist {fast}'),
    'depthwise-x6':    (128, 5, f'{leader} block=dw_x6 stem=dw_x6 {fast}'),
    'best-20':         (128, 20, f'{best} {fast}'),
    'best-192':        (192, 5, f'{best} {fast}'),
    'compiled-20':     (128, 20, f'act=mish {fast} compile=yes'),
}


def run_args(name, a):
    "Arguments of `woofbench run` for a row"
    size,epochs,text = ROWS[name]
    kw = dict(o.split('=', 1) for o in text.split())
    engine,at_once,compiled = kw.pop('engine', 'fast'),kw.pop('seeds-at-once', '1'),kw.pop('compile', None)
    if a.toy: kw,size,epochs = {k:v for k,v in kw.items() if k in ('act','sa','conv','block','pool')},32,1
    where = ['--dataset','digits'] if a.toy else ['--dataset','imagewoof','--data',a.data]
    return ['run', *where, '--size', str(size), '--epochs', str(epochs), '--engine', engine, '--seeds', '2' if a.toy else '5', '--out', str(a.out), '--seeds-at-once', at_once, *['--compile']*bool(compiled), *['--again']*(at_once!='1'), '--set', *(f'{k}={v}' for k,v in kw.items())]


def pieces(a):
    "(name, command) of every piece, most valuable first"
    py,cli = [sys.executable, '-u'],[sys.executable, '-c', 'import sys; from woofbench.cli import main; sys.exit(main(sys.argv[1:]))']
    row = [*py, '-m', 'benchmarks.row', *(['--dataset','digits','--size','32','--epochs','1','--arch','xresnet18','--seeds','2'] if a.toy else
           ['--data', a.data, '--arch', 'xresnet50', '--size', '128', '--epochs', '5'])]
    fields = ['--set', *fast.split(), *([] if a.toy else ['act=mish','sa=simple_sa'])]
    yield 'tests', [*py, '-m', 'pytest', '-q', '-m', 'cuda', '-rs', 'tests']
    yield 'profile', [*row, *fields, '--profile', '--ways', 'script', 'fast']
    yield 'row', [*row, *fields, '--out', str(a.out/'row.csv')]
    for name in list(ROWS)[:2 if a.toy else None]: yield name, [*cli, *run_args(name, a)]
    if not a.toy:
        for size,bs in ((192,64), (256,64), (128,32), (128,128)):
            yield f'size{size}-bs{bs}', [*py, '-m', 'benchmarks.row', '--data', a.data, '--arch', 'xresnet50', '--size', str(size), '--epochs', '1', '--seeds', '2', '--ways', 'fast', *fields, f'bs={bs}']


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='folder of Imagewoof')
    p.add_argument('--out', type=Path, required=True, help='folder for what is finished')
    p.add_argument('--minutes', type=float, default=9., help='stop after so many')
    p.add_argument('--only', nargs='+', help='these pieces only')
    p.add_argument('--toy', action='store_true', help='digits, for a try on any machine')
    a = p.parse_args()
    if not (a.toy or a.data): p.error('--data DIR or --toy')
    a.out.mkdir(parents=True, exist_ok=True)
    end,start = time.time()+60*a.minutes,time.time()
    for name,cmd in pieces(a):
        if a.only and name not in a.only: continue
        done,part = a.out/f'{name}.txt',a.out/f'{name}.part'
        if done.exists(): print(f'{name:16} is there'); continue
        if (left := end-time.time()) < 5: print(f'{name:16} next time'); continue
        t = time.time()
        with part.open('w') as f:
            try: rc = subprocess.run(cmd, stdout=f, stderr=subprocess.STDOUT, timeout=left).returncode
            except subprocess.TimeoutExpired: rc = None
        tail = ' | '.join(part.read_text().strip().splitlines()[-1:])[:150]
        if rc in (0, 5) or name=='tests' and rc is not None: part.rename(done) # 5: no test was selected; failed tests are a result
        print(f'{name:16} {time.time()-t:6.1f} s  {"cut off" if rc is None else "done" if rc==0 else f"exit {rc}"}  {tail}', flush=True)
    print(f'{time.time()-start:.0f} s in all')


if __name__=='__main__': main()
