"""Two paths through the code, as `nbs/commands/00_index.ipynb` lists them: what is on the stack at the end of each"""
import json, re, sys
from pathlib import Path
import pytest
import torch
from woofbench.board import rules
from woofbench.commands.cli import main

root = Path(__file__).parents[1]

class Reached(Exception): "The end of the path; what is on the stack is in `args`"

def files_on_stack(frame):
    "Files of the package from the first call to `frame`, one entry for calls within a file"
    names = []
    while frame:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(root/'woofbench'): names.append(path.relative_to(root/'woofbench').as_posix())
        frame = frame.f_back
    names.reverse()
    return [o for i,o in enumerate(names) if i==0 or o!=names[i-1]]

def path_to(monkeypatch, owner, name, argv, through):
    "Files that `main(argv)` goes through until it calls `owner.name`; only calls that came `through` a file count"
    was = getattr(owner, name)
    def stop(*args, **kw):
        stack = files_on_stack(sys._getframe())
        if through in stack: raise Reached(stack)
        return was(*args, **kw)
    monkeypatch.setattr(owner, name, stop)
    with pytest.raises(Reached) as e: main(argv)
    return e.value.args[0]

def listed(heading):
    "Modules of the notebooks that the list below `heading` links"
    cells = json.loads((root/'nbs'/'commands'/'00_index.ipynb').read_text(encoding='utf-8'))['cells']
    text = next(o for c in cells if heading in (o := ''.join(c['source'])))
    text = text.split(heading)[1].split('\n## ')[0].split('\n### ')[0]
    here = root/'nbs'/'commands'
    paths = [(here/o).resolve().relative_to(root/'nbs') for o in re.findall(r'\]\((\S+\.ipynb)\)', text)]
    return [(o.parent/re.sub(r'^\d+_', '', o.stem)).as_posix()+'.py' for o in paths]

def test_from_a_flag_to_a_module(tmp_path, monkeypatch):
    argv = 'run --act mish --arch xresnet10_tiny --size 16 --epochs 1 --seeds 1 --engine fastai --out'.split()
    way = path_to(monkeypatch, torch.nn.Mish, '__init__', [*argv, str(tmp_path)], 'train/learner.py')
    assert way==listed('### From `--act mish` to the module in the network')
    assert len(set(way))==len(way)

def test_from_a_record_to_its_verdict(monkeypatch):
    record = min((root/'records'/'digits').rglob('*.json'))
    way = path_to(monkeypatch, rules, 'faults', ['check', str(record)], 'board/rules.py')
    assert way==listed('### From a record to its verdict')
    assert len(set(way))==len(way)
