"""Sub-packages, the imports between them, and figures of the whole: `python tests/structure.py [COMMIT]`

It reads the work tree, or a commit from git, also one from before there were sub-packages: there every module counts as
one."""
import argparse, ast, io, json, re, subprocess, sys, tarfile, tempfile
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

NAME = 'woofbench'
GENERATED = re.compile(r"__all__ = |           '") # nbdev writes this list, at a width of its own


def modules(root):
    "Path by module, e.g. `board.record.strict`; tables of contents that are generated left out"
    package = root/NAME
    found = {'.'.join(o.relative_to(package).with_suffix('').parts):o for o in sorted(package.rglob('*.py'))}
    return {k:o for k,o in found.items() if o.name not in ('__init__.py','_modidx.py')}

def folder_of(module):
    "The sub-package of a module, e.g. `board/record`; empty for one that lies beside them"
    return '/'.join(module.split('.')[:-1])

def imported(path, root, known):
    "Modules, or sub-packages, of this package that `path` imports, also within functions"
    inner = path.relative_to(root).with_suffix('').parts
    for o in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(o, ast.Import): found = [a.name for a in o.names]
        elif isinstance(o, ast.ImportFrom):
            base = '.'.join([*(inner[:-o.level] if o.level else ()), *([o.module] if o.module else [])])
            found = [f'{base}.{a.name}' for a in o.names]
        else: continue
        for s in found:
            parts = s.split('.')
            if parts[0]!=NAME: continue
            yield from _longest('.'.join(parts[1:]), known)

def _longest(name, known):
    "The module or sub-package that a dotted name leads to"
    folders = {k.rpartition('.')[0] for k in known}
    while name:
        if name in known or name in folders: return [name]
        name = name.rpartition('.')[0]
    return []

def module_graph(root):
    "Modules that each module imports"
    known = modules(root)
    res = {}
    for k,path in known.items():
        to = {m for o in imported(path, root, known)
              for m in ([o] if o in known else [x for x in known if x.startswith(o+'.')])}
        res[k] = to-{k}
    return res

def unit_of(module):
    "What a module belongs to at the top: a sub-package, or itself"
    return module.split('.')[0]

def unit_graph(graph, unit=unit_of):
    "The same, of what `unit` makes of modules"
    res = {unit(k):set() for k in graph}
    for k,to in graph.items(): res[unit(k)] |= {unit(o) for o in to}-{unit(k)}
    return res

def levels(graph):
    "Level of each node, 1 being what imports nothing; raises `CycleError`"
    res = {}
    for k in TopologicalSorter(graph).static_order(): res[k] = 1+max((res[o] for o in graph[k]), default=0)
    return res

def circle(graph):
    "One circle of imports, or nothing"
    try: levels(graph)
    except CycleError as e: return e.args[1]


def _functions(path):
    for o in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(o, (ast.FunctionDef,ast.AsyncFunctionDef)): yield o.name, o.end_lineno-o.body[0].lineno+1

def before_lesson(path):
    "Share of a notebook's text before its first lesson that runs; None if it exports nothing"
    text,first,exports = 0,None,False
    for c in json.loads(path.read_text(encoding='utf-8'))['cells']:
        src = ''.join(c['source'])
        flags = set(re.findall(r'^#\|\s*(\w+)', src, re.M))
        ours = c['cell_type']=='code' and flags & {'export','exports','exporti'}
        exports = exports or bool(ours)
        if first is None and c['cell_type']=='code' and not ours and not flags & {'default_exp','hide'} and _does(src):
            first = text
        text += len(src)
    return None if not exports else 1. if first is None else first/text

def _does(src):
    try: return any(not isinstance(o, (ast.Import,ast.ImportFrom)) for o in ast.parse(src).body)
    except SyntaxError: return True # `!pip install`

def shares(root):
    "`before_lesson` by notebook"
    found = {o.relative_to(root).as_posix():before_lesson(o) for o in sorted((root/'nbs').rglob('*.ipynb'))
             if '.ipynb_checkpoints' not in o.parts}
    return {k:v for k,v in found.items() if v is not None}


def figures(root):
    "What is worth comparing between two commits, by what it is called"
    found,graph = modules(root),module_graph(root)
    units,share = unit_graph(graph),shares(root)
    wide = sum(len(o)>120 and not GENERATED.match(o) for p in found.values()
               for o in p.read_text(encoding='utf-8').splitlines())
    name,most = max(((f'{k}.{f}',n) for k,p in found.items() for f,n in _functions(p)), key=lambda o: o[1])
    folders = {unit_of(k) for k in found if '.' in k}
    def height(g): return 'circle' if circle(g) else max(levels(g).values())
    return {'sub-packages': len(folders), 'modules beside them': len(units)-len(folders),
            'levels at the top': height(units),
        'imports at the top': sum(map(len, units.values())),
        'imports between sub-packages': sum(len(v & folders) for k,v in units.items() if k in folders),
        'modules': len(found), 'levels of modules': height(graph), 'imports of modules': sum(map(len, graph.values())),
        'lines': sum(len(p.read_text(encoding='utf-8').splitlines()) for p in found.values()),
        'longest function': f'{most} lines ({name})', 'lines over 120 columns': wide,
        'text before the first '
        'lesson': f'{100*median(share.values()):.0f} % in the median notebook; above 40 % in '
                  f'{sum(o>.4 for o in share.values())} of {len(share)}'}

def picture(root):
    "Lines of text: what stands on which level, and what it imports"
    found,graph = modules(root),module_graph(root)
    units = unit_graph(graph)
    if c := circle(units): return [f'a circle: {" -> ".join(c)}']
    at,size = levels(units),{}
    for k,p in found.items(): size[unit_of(k)] = size.get(unit_of(k), 0)+len(p.read_text(encoding='utf-8').splitlines())
    inside = {}
    for k in found: inside.setdefault(unit_of(k), []).append(k)
    return [f'{at[k]:2}  {k + ("/" if any("." in o for o in inside[k]) else ""):12} {size[k]:5} lines  '
            f'{len(inside[k]):2} modules  imports {", ".join(sorted(units[k], key=at.get, reverse=True)) or "nothing"}'
            for k in sorted(units, key=lambda k: (-at[k], k))]

def at_commit(root, commit, to):
    "The package and the notebooks of `commit` in a folder `to`"
    raw = subprocess.run(['git','-C',root,'archive',commit,NAME,'nbs'], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as t: t.extractall(to, filter='data')
    return to

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('commit', nargs='?', help='a commit; the work tree if left out')
    p.add_argument('--short', action='store_true', help='the figures alone')
    a,root = p.parse_args(argv),Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as tmp:
        if a.commit: root = at_commit(root, a.commit, Path(tmp))
        if not a.short: print('\n'.join(picture(root)) + '\n')
        print('\n'.join(f'{k:30} {v}' for k,v in figures(root).items()))

if __name__=='__main__': sys.exit(main())
