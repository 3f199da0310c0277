"Each file of examples/, from Python and from the shell: its record, stopped and continued, changed, read elsewhere"
import contextlib, hashlib, io, json, shutil, sys
from functools import cache
from pathlib import Path
import pytest
from conftest import mostly_nightly, root
from warm import python
from woofbench.train import imports
from woofbench.board.record.provenance import code_facts
from woofbench.board.row import Row
from woofbench.commands.cli import main
from woofbench.commands.run import run
from woofbench.data.augment import augs
from woofbench.train.imports import import_parts
from woofbench.models.parts import acts, blocks
from woofbench.models.spec import archs
from woofbench.board.record.part_source import part_shas
from woofbench.train.losses import losses
from woofbench.train.optim import opts, scheds

# File -> its registry, the name of its part, a parameter, and a change of its code
PARTS = dict(
    activation=(acts, 'tanh_exp', {}, ('max=3', 'max=2')),
    block=(blocks, 'scaled', {}, ('.5', '.25')),
    optimiser=(opts, 'sign', dict(opt_shrink=.05), ('alpha=-lr', 'alpha=-2*lr')),
    schedule=(scheds, 'triangle', {}, ('r.lr / 1000', 'r.lr / 100')),
    augmentation=(augs, 'light', dict(aug_strength=.4), ('2 * at.rand', '1.5 * at.rand')),
    loss=(losses, 'focal', dict(loss_gamma=1.5), ('(1 - right)', '(1.1 - right)')),
    model=(archs, 'patches', dict(arch_width=16), ('nn.GELU', 'nn.SiLU')))

QUICK = 'activation','augmentation','loss','model' # the others in the nightly run
EXAMPLES = mostly_nightly([*PARTS], *map([*PARTS].index, QUICK))

@cache
def home():
    "A folder with copies of the files, and a board in it"
    import tempfile
    res = Path(tempfile.mkdtemp())
    shutil.copytree(root/'examples', res/'files')
    return res

@pytest.fixture(scope='module', autouse=True)
def clean():
    yield
    forget()
    if home.cache_info().currsize: shutil.rmtree(home())

def forget():
    "As in a new process: none of these files is known"
    for name,(reg,part,*_) in PARTS.items():
        if part in reg: del reg[part]
        sys.modules.pop(name, None)
    imports._done.clear()

def shell(*words):
    "Exit code and output of a command"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said): rc = main([str(o) for o in words])
    return rc, said.getvalue()

def fields(name): return {PARTS[name][0].kind:PARTS[name][1]} | PARTS[name][2]

def trains(name, stop=''):
    "Lines of a run from Python, which Ctrl-C ends at the first line that begins with `stop`"
    forget()
    import_parts(home()/'files'/f'{name}.py')
    lines = []
    def say(line):
        lines.append(line)
        if stop and line.startswith(stop): raise KeyboardInterrupt
    with contextlib.suppress(KeyboardInterrupt):
        run('digits', epochs=1, seeds=2, out=home(), say=say, **fields(name))
    return lines

@cache
def made(name):
    "The record of an example: the second seed is stopped from Python, and the shell goes on"
    assert [o for o in trains(name, 'seed 1') if o.startswith('seed')][0].startswith('seed 0  epoch 1/1')
    forget()
    flags = [o for k,v in fields(name).items() for o in (f'--{k.replace("_", "-")}', v)]
    rc,said = shell('run', '--dataset', 'digits', '--epochs', 1, '--seeds', 2, '--out', home(),
                    '--import', home()/'files'/f'{name}.py', *flags)
    assert rc==0, said
    assert 'continuing: 1 of 2 seeds are done' in said and '\nseed 1  epoch' in said and '\nseed 0  epoch' not in said
    return json.loads(Path(said.split('record: ')[1].split('\n')[0]).read_text())


@pytest.mark.parametrize('name', EXAMPLES)
def test_the_record_of_an_example(name):
    rec = made(name)
    sha = hashlib.sha256((home()/'files'/f'{name}.py').read_bytes()).hexdigest()
    assert rec['schema']==3 and rec['imports']==[dict(name=name, sha256=sha)]
    source = part_shas((home()/'files'/f'{name}.py').read_bytes())
    assert rec['outside']=={f'{PARTS[name][0].kind} {PARTS[name][1]}':o for o in source.values()}
    assert 'unranked: ' in Row(rec).status and rec['code']==code_facts(), 'the package itself is as it was'
    assert (rec['callbacks'], rec['tuning'], rec['processes'])==([], 0, 1)
    recipe = rec['recipe']
    have = {k:v for k,v in (*recipe.items(), *recipe['model'].items()) if isinstance(v, (str,list))}
    params = dict(recipe.get('params', {})) | dict(recipe['model'].get('params', {}))
    part = PARTS[name][1]
    assert part in have.values() or [part] in have.values()
    assert {k:params[k] for k in PARTS[name][2]}==PARTS[name][2]
    assert not any(o['diverged'] for o in rec['runs']) and min(o['correct'] for o in rec['runs'])>60

@pytest.mark.parametrize('name', EXAMPLES)
def test_the_same_file_is_not_trained_again_and_a_changed_one_is(name):
    made(name)
    assert 'this row is there already; woofbench run --again trains it again' in trains(name)
    path,(old,new) = home()/'files'/f'{name}.py',PARTS[name][3]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try: assert trains(name, 'seed 0  epoch')[-1].startswith('seed 0  epoch')
    finally: path.write_text(text)

def test_a_comment_in_an_imported_file_trains_again():
    "The file may do more than register a part, so that all of it counts"
    made('activation')
    path = home()/'files'/'activation.py'
    text = path.read_text()
    path.write_text(text+'# more\n')
    try: assert trains('activation', 'seed 0  epoch')[-1].startswith('seed 0  epoch')
    finally: path.write_text(text)

@pytest.mark.parametrize('names', (QUICK, pytest.param(PARTS, marks=pytest.mark.slow)), ids=len)
def test_other_processes_read_the_records_without_the_parts(names, tmp_path):
    for name in names: # a board of these records alone
        path, = home().rglob(f'{made(name)["record_id"]}.json')
        new = tmp_path/path.relative_to(home())
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, new)
    out = ['--out', str(tmp_path)]
    words = [['board', *out], ['check', str(tmp_path)], ['board', '--check', *out]]
    code = f'from woofbench.commands.cli import main; print([main(o) for o in {words!r}])'
    p = python(code, cwd=tmp_path)
    assert p.returncode==0, p.stderr
    networks = {'activation','block','model'} & {*names} # of the others, the costs can be counted
    assert p.stdout.count('needs audit:')==p.stdout.count('is not registered')==len(networks), p.stdout
    assert p.stdout.count('valid: unranked: ')==len(names)-len(networks), p.stdout
    assert p.stdout.endswith('[0, 3, 0]\n'), p.stdout
    for name in names: assert p.stdout.count(f'{made(name)["record_id"]}.json')==1

def test_every_example_is_in_this_test_and_names_its_command():
    "That of own images has a test elsewhere"
    assert {o.stem for o in (root/'examples').glob('*.py')}-{'own_images'}=={*PARTS}
    for name in PARTS:
        line = (root/'examples'/f'{name}.py').read_text().splitlines()[2].split()
        assert line[:5]==['woofbench', 'run', '--dataset', 'digits', '--import'] and line[5]==f'{name}.py'
        flags = dict(zip(line[6::2], line[7::2]))
        assert [*flags]==[f'--{k.replace("_", "-")}' for k in fields(name)] and PARTS[name][1] in flags.values()
