"""CPU seconds of `board` and `check` on boards of 200 to 2,000 made-up rows of one cell: `python benchmarks/ledger.py
[ROWS ...]`

The rows are as tests make them: five official seeds each, predictions that agree as those of networks do, noise from
seed to seed, and a learning rate of its own for every row. Imports are not counted."""
import contextlib, io, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent/'tests'))
from pulls import Dogs
from woofbench.board.check import check_path
from woofbench.commands.cli import main
from woofbench.board.record import record
from woofbench.data.track import datasets


def board(n, root):
    "A folder of `n` valid rows"
    dogs,datasets["imagewoof"].images["320"] = Dogs(1),"0"*64 # as if a maintainer had seen the images
    for i in range(n): record.write_record(root, dogs.entry(lr=(1000+i)*1e-5))


def forget():
    "Start as a new process does: no file was read before"
    getattr(record, '_passed', set()).clear()


def cpu(f):
    "What a call gives, and its CPU seconds"
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()): res = f()
    return res, time.process_time()-start


if __name__=='__main__':
    print('rows  board, s  check, s  verdict')
    for n in map(int, sys.argv[1:] or (200,400,800,1600,2000)):
        with tempfile.TemporaryDirectory() as tmp:
            board(n, Path(tmp))
            forget()
            rc,first = cpu(lambda: main(['board','--out',tmp]))
            forget()
            rep,second = cpu(lambda: check_path(tmp))
            print(f'{n:4d}  {first:8.1f}  {second:8.1f}  {rep.word}, exit code {rc}', flush=True)
