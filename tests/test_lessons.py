"The lessons: what each has to have, and that all run from an installed wheel in an empty folder"
import ast, json, os, re, subprocess, sys
from pathlib import Path
import pytest
from conftest import root

folder = root/'nbs/lessons'
index = (folder/'00_index.ipynb').read_text(encoding='utf-8')
lessons = [folder/o for o in re.findall(r'^ *"\| \[[^\]]+\]\((\w+\.ipynb)\)', index.split('More to read')[0], re.M)]
pattern = '#| eval: false\n!pip install -q "woofbench[submit] @ git+{repo}"'


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def evaluated(path):
    "Cells of code that run everywhere"
    return [c for c in cells(path) if c['cell_type']=='code' and 'eval: false' not in source(c)]

@pytest.fixture
def repo(): return re.search(r'^Repository = "(.+)"', (root/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]


def test_the_index_has_every_lesson_once():
    "And what is not a lesson below them"
    listed = re.findall(r'^ *"\| \[[^\]]+\]\((\w+\.ipynb)\)', index, re.M)
    assert len(lessons)>=11 and len(set(listed))==len(listed)
    assert {o.name for o in folder.glob('*.ipynb')} - {'00_index.ipynb'}==set(listed)

@pytest.mark.parametrize('path', lessons, ids=lambda o: o.stem)
def test_a_lesson_opens_on_colab(path, repo):
    "The link leads to the notebook itself, and the cell that installs the package is the same everywhere"
    first = [source(o) for o in cells(path)[:5]]
    slug = repo.removeprefix('https://github.com/')
    assert any(f'github/{slug}/blob/main/nbs/lessons/{path.name})' in o for o in first)
    assert any(o.startswith(pattern.format(repo=repo)) for o in first)
    assert '?' in first[1], 'a lesson begins with a question'

@pytest.mark.parametrize('path', lessons, ids=lambda o: o.stem)
def test_a_lesson_names_no_module(path):
    "All that it needs is at the top of the package"
    for c in cells(path):
        if c['cell_type']!='code': continue
        tree = ast.parse(''.join(o for o in c['source'] if not o.startswith(('!','%'))))
        named = [o.module for o in ast.walk(tree) if isinstance(o, ast.ImportFrom)] + \
                [a.name for o in ast.walk(tree) if isinstance(o, ast.Import) for a in o.names]
        assert not [o for o in named if o and o.startswith('woofbench.')], source(c)

@pytest.mark.parametrize('path', lessons, ids=lambda o: o.stem)
def test_the_outputs_of_a_lesson_are_stored(path):
    "It ends with a picture, or with a number that has an interval; and no output is large"
    code = evaluated(path)
    outputs = code[-1]['outputs']
    text = json.dumps(outputs)
    assert any('image/png' in o.get('data', {}) for o in outputs) or 'interval' in text
    assert 'traceback' not in json.dumps([o['outputs'] for o in code])
    assert len(path.read_bytes())<900_000

def test_links_to_colab_are_for_notebooks_that_install():
    for o in (root/'nbs').rglob('*.ipynb'):
        text = '\n'.join(map(source, cells(o)))
        colab,installs = re.search(r'^\[!\[Open in Colab\]', text, re.M),re.search(r'^!pip install .*git\+', text, re.M)
        assert installs or not colab, o


# From a wheel

@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A folder with the package, installed from a wheel"
    tmp = tmp_path_factory.mktemp('wheel')
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp, root], check=True)
    subprocess.run([*pip, 'install', '--no-deps', '--target', tmp/'site', *tmp.glob('*.whl')], check=True)
    return tmp/'site'

def run_lessons(paths, site, cwd, size):
    "What came of each lesson, in a process that knows the wheel alone"
    env = {k:v for k,v in os.environ.items() if k not in ('WOOFBENCH_DATA','WOOFBENCH_LESSONS')}
    env |= dict(PYTHONPATH=str(site), MPLBACKEND='agg', WOOFBENCH_LESSONS=size)
    (cwd/'run_lessons.py').write_text((root/'tests/run_lessons.py').read_text(encoding='utf-8'))
    cmd = [sys.executable, 'run_lessons.py', '--where', *map(str, paths)]
    p = subprocess.run(cmd, cwd=cwd, env=env, capture_output=True, text=True)
    assert p.returncode==0, p.stderr[-3000:]
    where,*res = [json.loads(o) for o in p.stdout.splitlines() if o.startswith('{')]
    assert Path(where['package']).is_relative_to(site), 'not from the wheel'
    return res

def faults(o):
    "What is wrong with a lesson that was run"
    if o['error']: return o['error']
    if o['not_run']: return f'it stopped before {o["not_run"]}'
    if o['without_output']: return f'no output of {o["without_output"]}'
    if 'image/png' not in o['last'] and not o['interval']: return 'neither picture nor interval at the end'

@pytest.mark.slow
@pytest.mark.parametrize('size', ('short','full'))
def test_every_lesson_runs_from_a_wheel_in_an_empty_folder(installed, tmp_path, size):
    res = run_lessons(lessons, installed, tmp_path, size)
    print({o['name']:(o['seconds'], o['cpu_s']) for o in res})
    assert len(res)==len(lessons)
    assert not {o['name']:faults(o) for o in res if faults(o)}
    if size=='full': assert not {o['name']:o['seconds'] for o in res if o['seconds']>300}

def test_a_lesson_that_stops_early_fails(tmp_path):
    "Whether it raises, exits, or shows nothing at the end"
    made = {'good':['1+1', 'print("95 % interval 1 to 2")'], 'raises':['1/0', '1+1'],
            'exits':['import sys', 'sys.exit()', 'print("interval")'], 'quiet':['1+1', 'x = 1']}
    for name,code in made.items():
        nb = dict(metadata={}, nbformat=4, nbformat_minor=5, cells=[dict(cell_type='code', id=f'c{i}', metadata={},
                  execution_count=None, outputs=[], source=[o]) for i,o in enumerate(code)])
        (tmp_path/f'{name}.ipynb').write_text(json.dumps(nb))
    from run_lessons import execute
    assert {o:bool(faults(execute(tmp_path/f'{o}.ipynb'))) for o in made}==dict(good=False, raises=True, exits=True,
                                                                               quiet=True)
