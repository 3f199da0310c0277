"From an idea in a file to a ranked row: one hash of the source, one request with code and row, no second training"
import json, os, shutil, subprocess, sys
from dataclasses import replace
from pathlib import Path
import pytest
from conftest import picture, root
from pulls import Repo, doctored, put
from test_submit import TOKEN, _without, server  # noqa: F401  a server that answers as GitHub does
from woofbench.train import imports
from woofbench.board.audit_flags import audit_flags
from woofbench.board.check import check_base, rows_at
from woofbench.board.record.git import source_here
from woofbench.board.record.record import read_record
from woofbench.board.row import Board, Row
from woofbench.board.standing import standing
from woofbench.board.tricks import CARDS, INDEX, trick_paths, tricks_at
from woofbench.commands.run import run
from woofbench.commands.submit import submit
from woofbench.commands.to_notebook import trick_notebook
from woofbench.data.manifest import lines_sha, verify
from woofbench.data.track import datasets
from woofbench.models.parts import acts
from woofbench.board.record.part_source import exported, part_shas
from woofbench.registry import BadInput
from woofbench.site.site import cards

IDEA = '''"""soft_bent: a leaky ReLU with a rounded corner

Try it: woofbench run --dataset digits --import soft_bent.py --act soft_bent
"""
import torch
from torch.nn import functional as F
from torch import nn
from fastcore.basics import patch
from woofbench.models.parts import acts
from woofbench.registry import Param

# A tenth
SLOPE = .1
UNUSED = dict(a=1)

def rounded(x): return F.softplus(4 * x) / 4 # smooth

def unused(x): return x

@acts.register('soft_bent', params=dict(slope=Param(SLOPE, f'Slope {"below"} zero', 0, 1)))
class SoftBent(nn.Module):
    "max(x, 0), rounded, and a slope below"
    def __init__(self, *, slope):
        super().__init__()
        self.slope = slope

@patch
def forward(self:SoftBent, x):
    "Both sides"
    return rounded(x) + self.slope * torch.clamp(x, max=0)

if __name__ == '__main__': print(SoftBent(slope=.1)(torch.zeros(1)))
'''
NAME,KEY = 'soft_bent','act soft_bent'
STORED = 'd6716d2a926c6909'

def sha(text, name=NAME, package=''):
    return {n:v for (_,n),v in part_shas(text.encode(), package).items()}[name]


# The hash

def test_the_hash_is_stored():
    "Of a published record: it must never change, and no version of Python may give another one"
    assert sha(IDEA)==STORED
    assert sha(IDEA.replace('woofbench.registry', 'woofbench.params'))=='3a5ea511fb9c64f6' # as it was first written

def pythons():
    "Programs of this version of Python and of others on this machine"
    found = {v:shutil.which(f'python3.{v}') for v in range(10, 15)}
    found |= {int(o.name.split('.')[1]):str(o/'bin'/'python') for o in sorted(Path.home().glob('.pyenv/versions/3.1*'))}
    return {v:o for v,o in found.items() if o and v>=10} | {sys.version_info[1]:sys.executable}

ALONE = '''
import ast, sys, types, importlib.util
sys.modules['woofbench'] = types.ModuleType('woofbench')
sys.modules['woofbench'].__path__ = []
sys.modules['woofbench.registry'] = types.SimpleNamespace(BadInput=ValueError, syntax_tree=ast.parse)
for name in ('files','board.record.part_source'):
    path = f'{sys.argv[1]}/{name.replace(".", "/")}.py'
    spec = importlib.util.spec_from_file_location(f'woofbench.{name}', path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
print(module.part_shas(sys.stdin.buffer.read())['acts','soft_bent'])
'''
def test_every_version_of_python_gives_the_same():
    for v,program in pythons().items():
        p = subprocess.run([program, '-c', ALONE, root/'woofbench'], input=IDEA.encode(), capture_output=True)
        if b'pyenv' in p.stderr: continue # a name without a program behind it
        assert (p.returncode, p.stdout.decode().strip())==(0, STORED), (v, p.stderr)

SAME = {'a comment':('# A tenth', '# .1'), 'a docstring':('"Both sides"', '"Left and right"'),
        'a docstring less':('    "Both sides"\n', ''), 'imports':('from torch import nn', 'import torch.nn as nn'),
        'spaces':('4 * x', '4*x'), 'a function out of reach':('def unused(x): return x', 'def unused(x): return 2*x'),
        'a constant out of reach':('dict(a=1)', 'dict(a=2)'), 'a demonstration':('print(', 'repr('),
        'an f-string':('f\'Slope {"below"} zero\'', 'f\'Slo\' f\'pe {"below"}\' " zero"')}
@pytest.mark.parametrize('what', SAME)
def test_what_makes_no_difference(what):
    old,new = SAME[what]
    assert IDEA.count(old)==1 and sha(IDEA.replace(old, new))==STORED

OTHER = {'a helper':('4 * x) / 4', '5 * x) / 5'), 'a constant':('SLOPE = .1', 'SLOPE = .2'),
         'a patched method':('max=0', 'max=1'), 'its own body':('self.slope = slope', 'self.slope = 2*slope'),
         'where a name is from':('from torch.nn import functional as F', 'from elsewhere import functional as F'),
         'a parameter':("0, 1)", "0, 2)"), 'an attribute of a library':('UNUSED = ', 'F.softplus = '),
         'code that an import runs':('UNUSED = dict(a=1)', 'print(1)'),
         'a method of another class':('def unused(x)', '@patch\ndef unused(x:nn.Linear)')}
@pytest.mark.parametrize('what', OTHER)
def test_what_makes_a_difference(what):
    old,new = OTHER[what]
    assert IDEA.count(old)==1 and sha(IDEA.replace(old, new))!=STORED


# The way from a file to a rank

def sh(where, *args, env=None):
    who = {f'GIT_{a}_{k}':v for a in ('AUTHOR','COMMITTER') for k,v in (('NAME','ann'), ('EMAIL','ann@localhost'))}
    clean = {k:v for k,v in os.environ.items() if not k.startswith('GIT_')} | who | dict(GIT_CONFIG_GLOBAL='/dev/null')
    return subprocess.run([str(o) for o in args], cwd=where, env=clean | (env or {}), check=True, capture_output=True,
                          text=True).stdout.strip()

def write_images(path):
    "Three classes of noise, as large as an edition's, and the facts of an edition that has them"
    for split,n in (('train',8), ('val',4)):
        for c in 'abc':
            for i in range(n): picture(path/split/c/f'{c}{i}.jpg', (330,320), i)
    val = sorted(o.relative_to(path).as_posix() for o in (path/'val').rglob('*.jpg'))
    train = sorted(o.relative_to(path).as_posix() for o in (path/'train').rglob('*.jpg'))
    d = replace(datasets['imagewoof'], n_train=24, n_val=12, n_classes=3, val_names=lines_sha(val), bands={}, easy=True,
                names=lines_sha([*train, *val]), images={})
    return d

class Walk:
    "What the author does, step by step, in a clone of a bare repository"
    def __init__(self, home):
        self.home,self.bare,self.clone = home,home/'server'/'dogs'/'kennel',home/'clone'
        made = home/'made'
        for o in ('woofbench','nbs'):
            shutil.copytree(root/o, made/o, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '_docs'))
        for o in ('settings.ini','pyproject.toml','setup.py','README.md'): shutil.copy(root/o, made/o)
        sh(made, 'git', 'init', '-qb', 'main')
        self.first = self.commit(made, 'code')
        sh(home, 'git', 'clone', '-q', '--bare', made, self.bare)
        sh(home, 'git', 'clone', '-q', self.bare, self.clone)
        sh(self.clone, 'git', 'remote', 'set-url', 'origin', 'https://github.com/dogs/kennel')
        (home/'work').mkdir()
        self.file = home/'work'/f'{NAME}.py'
        self.file.write_text(IDEA)

    def commit(self, where, what):
        sh(where, 'git', 'add', '-A')
        sh(where, 'git', 'commit', '-qm', what)
        return sh(where, 'git', 'rev-parse', 'HEAD')

    def notebook(self, cli):
        "`woofbench new trick --from FILE`, then what `make nbs` does"
        at = os.getcwd()
        os.chdir(self.clone)
        try: rc,out,err = cli(f'new trick --from {self.file}')
        finally: os.chdir(at)
        assert rc==0, err
        sh(self.clone, Path(sys.executable).parent/'nbdev-export', env=dict(PYTHONPATH=str(self.clone)))
        path = self.clone/CARDS
        both = json.loads(path.read_text()) | cards(self.clone, [f'nbs/tricks/{NAME}.ipynb'])
        path.write_text(json.dumps(both, indent=1, ensure_ascii=False)+'\n')
        return out

    def modules(self): return {p:(self.clone/p).read_bytes() for p in trick_paths(NAME) if (self.clone/p).exists()}

@pytest.fixture(scope='module')
def walk(tmp_path_factory):
    "A row that was trained with the file, for an edition that is known as long as these tests run"
    home,was = tmp_path_factory.mktemp('walk'),datasets['imagewoof']
    w = Walk(home)
    code = dict(version='0.1.0', source_sha256=source_here(), commit=w.first, dirty=False)
    with pytest.MonkeyPatch.context() as m:
        d = write_images(home/'images')
        dict.__setitem__(datasets, 'imagewoof', d)
        seen = verify(home/'images', 'imagewoof')
        dict.__setitem__(datasets, 'imagewoof', replace(d, images={'320':seen.sha256}))
        m.setattr('woofbench.commands.publish.code_facts', lambda: dict(code))
        imports.import_parts(w.file)
        w.say = []
        w.row = run('imagewoof', size=128, epochs=5, data=home/'images', official=True, arch='xresnet10_tiny', bs=8,
                    act=NAME, out=home/'work', say=w.say.append, engine='fast', device='cpu', workers=0)
        yield w
    dict.__setitem__(datasets, 'imagewoof', was)
    imports._done.clear()
    del acts[NAME]
    sys.modules.pop(NAME, None)

@pytest.fixture
def mix(walk, cli):
    "The files of the trick and its row, by path, once the notebook is there"
    if not (walk.clone/'nbs/tricks'/f'{NAME}.ipynb').exists(): walk.said = walk.notebook(cli)
    return walk.modules() | put(walk.row.record)

def git_of(path):
    "The bare repository, to be written to object by object"
    repo = Repo.__new__(Repo)
    repo.path,repo.env = path,os.environ | {f'GIT_{a}_{k}':v for a in ('AUTHOR','COMMITTER')
                                            for k,v in dict(NAME='a', EMAIL='a@localhost').items()}
    return repo

def test_the_record_has_the_hash_and_says_what_is_missing(walk):
    rec = walk.row.record
    assert rec.outside=={KEY:STORED} and rec.code.dirty is False and rec.imports[0].name==NAME
    assert walk.row.status==f'unranked: the code of {KEY} is not on the main branch'
    assert any('has no rank until the code is merged' in o for o in walk.say)
    assert audit_flags(Row(rec), Board())==[] and read_record(walk.row.path)==rec

def test_the_notebook_exports_the_same_hash(walk, mix):
    raw = mix[f'nbs/tricks/{NAME}.ipynb']
    assert part_shas(exported(raw, f'tricks.{NAME}'))==part_shas(IDEA.encode())
    module = mix[f'woofbench/tricks/{NAME}.py'].decode()
    assert 'from ..models.parts import acts' in module and '__all__ = [' in module and sha(module, NAME,
            'woofbench.tricks')==STORED
    cells = json.loads(raw)['cells']
    assert [o['id'] for o in cells][:4]==['title','card','first-look','default-exp']
    assert 'make nbs readme' in walk.said and '# A tenth\n' in ''.join(o for c in cells for o in c['source'])

def test_code_and_row_in_one_request(walk, mix):
    repo = git_of(walk.bare)
    code = repo.commit({k:v for k,v in mix.items() if not k.startswith('records')}, walk.first)
    head = repo.commit(put(walk.row.record), code)
    rep = check_base('main', head, walk.bare)
    assert rep.word=='valid' and len(rep.items)==1, rep
    assert {*rep.other}=={*mix}-{*put(walk.row.record)}, 'the code is listed'
    assert f'the code of {KEY} is in this request and not merged yet' in str(rep)
    assert {*tricks_at(walk.bare, head)}>={(NAME, STORED)} and (NAME, STORED) not in tricks_at(walk.bare, walk.first)
    (row,) = rows_at(walk.bare, repo.commit(put(walk.row.record), walk.first))
    assert standing(row, [row])==f'unranked: the code of {KEY} is not on the main branch', 'the row alone has no rank'
    (row,) = rows_at(walk.bare, head)
    assert standing(row, [row])=='ranked'
    later = repo.commit({f'woofbench/tricks/{NAME}.py':b'# another version\n'}, head)
    (row,) = rows_at(walk.bare, later)
    assert standing(row, [row])=='ranked', 'any version of the main branch'
    side = repo.commit({'README.md':b'news'}, walk.first)
    merged = repo.commit(mix, side, head, on=side)
    (row,) = rows_at(walk.bare, merged)
    assert standing(row, [row])=='ranked', 'a merge commit brings it as well'

def changed(mix, path, old, new):
    assert old in mix[path], (path, old)
    return mix | {path:mix[path].replace(old, new)}

def hostile(walk, mix):
    "name -> (files, what is said of them)"
    nb,module = f'nbs/tricks/{NAME}.ipynb',f'woofbench/tricks/{NAME}.py'
    run = f'open({str(walk.home/"canary")!r}, "w")'.encode()
    other = doctored(walk.row.record, lambda r: r['outside'].update({KEY:'0'*16}))
    plain = doctored(walk.row.record, lambda r: r.update(outside={}))
    more = doctored(walk.row.record, lambda r: r['outside'].update({'opt mine':'0'*16}))
    code = {k:v for k,v in mix.items() if not k.startswith('records')}
    broken = {k:v.replace(b'"note"', b'"note') for k,v in put(walk.row.record).items()}
    second = doctored(walk.row.record, lambda r: r.update(created='2026-11-25T00:00:00Z'))
    return {
        'a module with more':(mix | {module:mix[module]+b'\n'+run+b'\n'}, 'not what its notebook exports'),
        'a module with other numbers':(changed(mix, module, b'SLOPE = .1', b'SLOPE = .2'), 'not what its notebook'),
        'a module that runs for __all__':(changed(mix, module, b'__all__ = [', b'__all__ = [' + run + b', '),
                                          'not what its notebook exports'),
        'a module in another encoding':(mix | {module:b'# coding: latin-1\n'+mix[module]+'# \xe9'.encode('latin-1')+
                                               b'\nx = 1\n'}, 'not what its notebook exports'),
        'a notebook for another module':(changed(mix, nb, b'default_exp tricks.', b'default_exp board.'),
                                         f'must name tricks.{NAME}'),
        'a cell for another module':(mix | {nb:mix[nb].replace(b'#| export', b'#| export board.rules')},
                                     'all cells must export to'),
        'a notebook that is none':(mix | {nb:b'{}'}, 'not a notebook'),
        'a notebook that is deep':(mix | {nb:b'['*100_000}, 'not a notebook'),
        'a table that runs':(mix | {INDEX:mix[INDEX]+run+b'\n'}, 'not a table of names'),
        'a table with a call':(changed(mix, INDEX, b"'settings': {", b"'settings': {**" + run + b', '),
                               'not a table'),
        'a table that changes other names':(changed(mix, INDEX, b'tricks/mish.html#mish', b'tricks/other.html#mish'),
                                            'must be as on the main branch'),
        'cards that are changed':(mix | {CARDS:b'{}'}, 'must be as on the main branch'),
        'cards that are no JSON':(mix | {CARDS:b'{'}, 'not JSON'),
        'a row with another hash':(code | put(other), 'was trained with other code'),
        'a row without a hash':(code | put(plain), 'was not trained with the trick'),
        'a row with more code':(code | put(more), 'opt mine was trained with other code'),
        'a second row':(mix | put(second), 'comes with one row'),
        'a second notebook':(mix | {'nbs/tricks/other.ipynb':mix[nb]}, 'brings nothing but rows'),
        'another file':(mix | {'setup.py':run}, 'brings nothing but rows'),
        'a module elsewhere':(mix | {'woofbench/train/mine.py':run}, 'brings nothing but rows'),
        'no module':({k:v for k,v in mix.items() if k!=module}, 'brings nothing but rows'),
        'no table':({k:v for k,v in mix.items() if k!=INDEX}, 'brings nothing but rows'),
        'a link for a module':(mix | {module:('120000', b'/etc/passwd')}, 'brings nothing but rows'),
        'a program for a module':(mix | {module:('100755', mix[module])}, 'brings nothing but rows'),
        'a changed trick':({k:v for k,v in mix.items() if k not in (nb,module)} |
                           {'nbs/tricks/mish.ipynb':mix[nb], 'woofbench/tricks/mish.py':mix[module]},
                           'brings nothing but rows'),
        'a broken row':(code | broken, 'not JSON')}

HOSTILE = [*('a module with more|a module with other numbers|a module that runs for __all__|'
            'a module in another encoding|a notebook for another module|a cell for another module|'
            'a notebook that is none|a notebook that is deep|a table that runs|a table with a call|'
            'a table that changes other names|cards that are changed|cards that are no JSON|'
            'a row with another hash|a row without a hash|a row with more code|a second row|'
            'a second notebook|another file|a module elsewhere|no module|no table|a link for a module|'
            'a program for a module|a changed trick|a broken row').split('|')]
@pytest.mark.parametrize('what', HOSTILE)
def test_any_other_mix_is_invalid(walk, mix, what):
    cases = hostile(walk, mix)
    assert [*cases]==HOSTILE
    files,why = cases[what]
    rep = check_base('main', git_of(walk.bare).commit(files, walk.first), walk.bare)
    assert rep.word=='invalid' and why in str(rep), rep
    assert not (walk.home/'canary').exists() and str(rep).isascii() and rep.to_md().isascii()

def test_a_trick_alone_is_left_to_people(walk, mix):
    code = {k:v for k,v in mix.items() if not k.startswith('records')}
    rep = check_base('main', git_of(walk.bare).commit(code, walk.first), walk.bare)
    assert rep.word=='no rows' and {*rep.other}=={*code}

def test_a_program_without_the_part_counts_its_costs_after_the_merge(walk, mix):
    "What checks a request does not know the part; alone, its row needs an audit"
    part,params = acts[NAME],acts.params[NAME]
    del acts[NAME]
    try:
        repo = git_of(walk.bare)
        rep = check_base('main', repo.commit(put(walk.row.record), walk.first), walk.bare)
        assert rep.word=='needs audit' and f'{KEY} is not registered' in str(rep)
        assert check_base('main', repo.commit(mix, walk.first), walk.bare).word=='valid'
    finally: acts.put(NAME, part, NAME, False)
    acts.params[NAME] = params

@pytest.fixture
def hub(walk, server, monkeypatch):  # noqa: F811
    "The server with this project, to which the author may write"
    for k in [o for o in os.environ if o.startswith('GIT_') or o in ('GITHUB_TOKEN','GH_TOKEN')]: monkeypatch.delenv(k)
    _without(monkeypatch, False)
    server.root,server.calls,server.pulls,server.writes,server.pushes = walk.home/'server',[],[],[],[]
    server.fails,server.wait,server.may_push,server.watch = {},0,True,lambda body: None
    return server

def test_from_the_file_to_a_ranked_row(walk, mix, hub):
    "`submit` sends two commits; they pass the check; merged, the row is ranked by a program that has the trick"
    bare,rid = walk.bare,walk.row.id
    kw = dict(method='Soft bent', authors='ann', out=walk.home/'work', repo=f'{hub.url}/dogs/kennel',
              trick=walk.clone/f'nbs/tricks/{NAME}.ipynb', say=lambda line: None)
    assert submit(walk.row, token=TOKEN, **kw).endswith('/pull/1') and not hub.pushes
    assert 'Code to read' in hub.pulls[0]['body'] and f'nbs/tricks/{NAME}.ipynb' in hub.pulls[0]['body']
    record,code = sh(bare, 'git', 'log', '--format=%H', f'main..row/{rid}').split()
    def files(commit): return {*sh(bare, 'git', 'diff-tree', '--no-commit-id', '--name-only', '-r', commit).split()}
    assert files(code)=={*mix}-{*put(walk.row.record)} and files(record)=={*put(walk.row.record)}
    rep = check_base('main', f'row/{rid}', bare)
    assert rep.word=='valid' and {*rep.other}==files(code), rep
    before = sh(bare, 'git', 'rev-parse', 'main')
    sh(bare, 'git', 'update-ref', 'refs/heads/main', record)
    try:
        merged = walk.home/'merged'
        sh(walk.home, 'git', 'clone', '-q', bare, merged)
        said = sh(merged, sys.executable, '-m', 'woofbench', 'board', env=dict(PYTHONPATH=str(merged)))
        (line,) = [o for o in said.splitlines() if rid in o]
        assert '| ranked |' in line and 'soft_bent' in line, said
        assert f',ranked,{walk.row.config_id},{rid}' in (merged/'leaderboard.csv').read_text()
    finally: sh(bare, 'git', 'update-ref', 'refs/heads/main', before)

def test_without_a_token_the_steps_bring_both(walk, mix, hub):
    lines = []
    submit(walk.row, out=walk.home/'work', repo=f'{hub.url}/dogs/kennel', say=lines.append,
           trick=walk.clone/f'nbs/tricks/{NAME}.ipynb')
    text = '\n'.join(lines)
    steps = [o.strip() for o in text[text.index('  git clone'):text.index('  and open')].splitlines()]
    (walk.home/'shell').mkdir()
    sh(walk.home/'shell', 'sh', '-e', '-c', '\n'.join(steps[:-1]).replace('YOU', 'dogs'))
    rep = check_base('origin/main', f'row/{walk.row.id}', walk.home/'shell/kennel')
    assert rep.word=='valid' and {*rep.other}=={*mix}-{*put(walk.row.record)}

def test_a_trick_that_does_not_fit_is_not_sent(walk, mix, hub):
    nb = walk.clone/f'nbs/tricks/{NAME}.ipynb'
    module = walk.clone/f'woofbench/tricks/{NAME}.py'
    raw = module.read_bytes()
    module.write_bytes(raw.replace(b'SLOPE = .1', b'SLOPE = .2'))
    kw = dict(out=walk.home/'work', repo=f'{hub.url}/dogs/kennel', token=TOKEN, say=lambda line: None)
    try:
        with pytest.raises(BadInput, match='soft_bent.py: it is not what its notebook exports'):
            submit(walk.row, trick=nb, **kw)
    finally: module.write_bytes(raw)
    for odd,why in ((walk.file, 'in your clone'), (nb.with_name('gone.ipynb'), 'cannot be read')):
        with pytest.raises(BadInput, match=why): submit(walk.row, trick=odd, **kw)
    assert not hub.pulls


# The notebook from a file

@pytest.mark.slow
def test_an_example_of_every_kind_can_be_a_trick(tmp_path):
    "As notebooks of a clone they are exported, have the hashes of their files, and are parts of that package"
    shutil.copytree(root/'woofbench', tmp_path/'woofbench', ignore=shutil.ignore_patterns('__pycache__'))
    (tmp_path/'nbs/tricks').mkdir(parents=True) # an export of all other notebooks writes what is there
    for o in ('settings.ini','pyproject.toml'): shutil.copy(root/o, tmp_path/o)
    files = [o for o in sorted((root/'examples').glob('*.py')) if part_shas(o.read_bytes())]
    assert len(files)==7
    for o in files: trick_notebook(o, tmp_path/'nbs/tricks')
    env = dict(PYTHONPATH=str(tmp_path))
    sh(tmp_path, Path(sys.executable).parent/'nbdev-export', env=env)
    for o in files:
        module = (tmp_path/'woofbench/tricks'/o.name).read_bytes()
        assert part_shas(module, 'woofbench.tricks')==part_shas(o.read_bytes()), o
    code = """from woofbench.train.recipe import Recipe, to_dict
from woofbench.board.record.own_parts import strangers
kw = dict(act='tanh_exp', block='scaled', opt='sign', sched='triangle', aug='light', loss='focal')
print(*[strangers(to_dict(Recipe().but(**o))) for o in (kw, dict(arch='patches'))])"""
    assert sh(tmp_path, sys.executable, '-c', code, env=env)=='[] []'
    assert sh(tmp_path, sys.executable, '-c', 'import woofbench.tricks.optimiser', env=env)==''

@pytest.mark.parametrize('text,why', [('x = 1', 'registers no part'), ('import gone_module', 'imports gone_module'),
                                      ('from .mine import f', 'imports other files'), ('def', 'not Python'),
                                      (IDEA.replace('# A tenth', '#| export board.rules'), 'all cells must export to'),
                                      (IDEA.replace('SLOPE = .1', 'SLOPE = .1; b = 2'), 'two statements')])
def test_a_file_that_cannot_be_a_trick(tmp_path, monkeypatch, refused, text, why):
    (tmp_path/'nbs/tricks').mkdir(parents=True)
    (tmp_path/'mine.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    assert why in refused('new trick --from mine.py')
    assert not [*(tmp_path/'nbs/tricks').iterdir()]

def test_what_new_takes(refused):
    assert 'give the name' in refused('new trick') and 'give the name' in refused('new trick x --from y.py')
    assert 'needs the name' in refused('new board') and 'cannot read' in refused('new trick --from gone.py')
