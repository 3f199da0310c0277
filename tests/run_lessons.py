"""Execute lessons in the folder where you are, in one process, and print what came of each as JSON:
`python run_lessons.py [--save] [--where] NOTEBOOK ...`. With `--save` the outputs go into the notebooks, and with
`--where` the first line says where the package is"""
import json, re, sys, time
from pathlib import Path
from execnb.shell import CaptureShell
from fastcore.nbio import read_nb, write_nb


def left_out(cell): return cell.cell_type!='code' or bool(re.search(r'^#\|\s*eval:\s*false', cell.source, re.M))

def execute(path, save=False):
    "Run all cells but those that are for Colab; stops at the first error"
    nb,shell,start,cpu,ran = read_nb(path),CaptureShell(),time.time(),time.process_time(),[]
    stored = {c.id for c in nb.cells if c.cell_type=='code' and c.outputs}
    res = dict(name=Path(path).stem, error='')
    try: shell.run_all(nb, exc_stop=True, preproc=left_out, postproc=lambda c: ran.append(c.id))
    except BaseException: res['error'] = re.sub(r'\x1b\[[0-9;]*m', '', shell.prettytb(fname=path) or 'it was stopped')
    cells = [c for c in nb.cells if not left_out(c)]
    res['not_run'] = [c.id for c in cells if c.id not in ran]
    res['without_output'] = [c.id for c in cells if c.id in stored and not c.outputs]
    res['last'] = sorted({k for o in cells[-1].outputs for k in o.get('data', ['text'])})
    res['interval'] = 'interval' in json.dumps(cells[-1].outputs)
    if save and not res['error']: write_nb(nb, path)
    return res | dict(seconds=round(time.time()-start, 1), cpu_s=round(time.process_time()-cpu, 1))


if __name__=='__main__':
    flags,paths = ([o for o in sys.argv[1:] if o.startswith('--')==k] for k in (True, False))
    if '--where' in flags:
        import woofbench
        print(json.dumps(dict(package=woofbench.__file__)), flush=True)
    for o in paths: print(json.dumps(execute(o, '--save' in flags)), flush=True)
