"The rules of the house: who imports whom, who writes, how long things are, and that what is written down is true"
import ast, json, re, shlex, shutil, subprocess, sys
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path
import pytest
from conftest import root
import woofbench
from structure import GENERATED, circle, folder_of, module_graph, modules as modules_in, shares
from woofbench.site.site import subpackages

package = root/'woofbench'
paths,graph = modules_in(root),module_graph(root)
modules = list(paths.values())
order = ['', *subpackages] # the modules beside them come first; each imports from those before it
# where a trick finds the registry of its kind; they import no trick
kinds = set('data.augment train.optim train.losses train.gradients train.averages train.groups'.split())
writers = set('board.record.own_parts board.record.record board.table board.trials board.weights '
              'commands.doctor commands.new commands.publish commands.request commands.seed_folder commands.sweep '
              'commands.sweep_tasks commands.to_notebook commands.tune '
              'data.manifest data.store files lessons site.docs site.page site.site train.export train.learner '
              'train.observers train.resume train.weights web.build'.split())


def name_of(path): return '.'.join(path.relative_to(package).with_suffix('').parts)

notebooks = sorted(o for o in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts)

def name_of_notebook(path): return path.relative_to(root/'nbs').with_suffix('').as_posix()

def tree(path): return ast.parse(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('module', sorted(graph))
def test_imports_point_to_earlier_sub_packages(module):
    me = order.index(folder_of(module))
    later = {o for o in graph[module] if order.index(folder_of(o))>me}
    assert not later-(kinds if folder_of(module)=='tricks' else set()), f'{module} imports {later}'


def test_every_sub_package_is_in_the_list():
    assert {folder_of(o) for o in graph}==set(order)

def test_every_sub_package_opens_with_an_index():
    assert not [o for o in subpackages if '/' not in o and not (root/'nbs'/o/'00_index.ipynb').exists()]


def test_imports_have_no_circle(): assert circle(graph) is None


@pytest.mark.parametrize('path', modules, ids=lambda o: o.stem)
def test_a_name_with_an_underscore_stays_in_its_module(path):
    own = [o for o in ast.walk(tree(path)) if isinstance(o, ast.ImportFrom)
           and (o.level or (o.module or '').split('.')[0]=='woofbench')]
    private = [f'{a.name} of {o.module}' for o in own for a in o.names if re.match('_[a-zA-Z]', a.name)]
    assert not private, f'{path.name} imports {private}: give it a public name, with comments at its parameters'


def _without_main(t):
    t.body = [o for o in t.body if not (isinstance(o, ast.If) and '__name__' in ast.unparse(o.test))]
    return t

@pytest.mark.parametrize('path', modules, ids=lambda o: o.stem)
def test_argv_is_read_only_in_cli(path):
    reads = [o.lineno for o in ast.walk(_without_main(tree(path))) if isinstance(o, ast.Attribute) and o.attr=='argv'
             or isinstance(o, ast.Name) and o.id=='argv']
    assert not reads or name_of(path)=='commands.cli', f'{path.name} reads argv in lines {reads}'


def _writes(o):
    if not isinstance(o, ast.Call): return False
    f = ast.unparse(o.func)
    if f in ('open','io.open') or f.endswith('.open'):
        mode = next((k.value for k in o.keywords if k.arg=='mode'),
                    o.args[1] if len(o.args)>1 and f in ('open','io.open') else None)
        return isinstance(mode, ast.Constant) and bool(set(mode.value) & set('wax+'))
    return f.split('.')[-1] in 'write_text write_bytes write_atomic write_record unlink rmtree mkdir rmdir touch rename symlink_to'.split() or f in ('os.replace','os.remove','torch.save') # noqa: E501

@pytest.mark.parametrize('path', modules, ids=lambda o: o.stem)
def test_files_are_written_by_few(path):
    lines = [o.lineno for o in ast.walk(tree(path)) if _writes(o)]
    assert not lines or name_of(path) in writers, f'{path.name} writes files in lines {lines}'


# How long things are

def exported(path):
    "Sources of the cells of a notebook that go into the package"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    sources = [''.join(c['source']) for c in cells if c['cell_type']=='code']
    return [o for o in sources if re.search(r'^#\|\s*export', o, re.M)]

@pytest.mark.parametrize('path', notebooks, ids=name_of_notebook)
def test_cells_of_code_have_at_most_30_lines(path):
    tables = 'class Recipe:','@takes_fields\ndef ' # a line for each field, or for each argument of a public function
    assert not [o.splitlines()[1] for o in exported(path) if len(o.splitlines())>30 and not any(t in o for t in tables)]

@pytest.mark.parametrize('path', notebooks, ids=name_of_notebook)
def test_stored_outputs_name_no_folder_of_a_machine(path):
    "But those of temporary files"
    for c in json.loads(path.read_text(encoding='utf-8'))['cells']:
        for o in c.get('outputs', []):
            shown = {k:v for k,v in o.get('data', {}).items() if not k.startswith('image/')}
            text = json.dumps([shown, o.get('text', ''), o.get('traceback', '')])
            assert not re.search(r'(?<![\w.:/<])/(home|root|work|Users|opt)/', text), c['id']

def test_the_first_lesson_comes_early():
    "Within the first 40 % of the text of a notebook"
    late = {k:round(v, 2) for k,v in shares(root).items() if v>.4}
    assert not late

def test_code_has_at_most_120_columns_and_one_statement_a_line():
    """`ruff` looks at notebooks, tests and scripts; here it is the exported package. nbdev writes `__all__` on lines
    of its own"""
    long = [f'{name_of(o)}:{i}' for o in modules for i,line in enumerate(o.read_text(encoding='utf-8').splitlines(), 1)
            if len(line)>120 and not GENERATED.match(line)]
    assert not long

def parameters_of(f):
    a = f.args
    return len([o for o in a.posonlyargs + a.args + a.kwonlyargs if o.arg not in ("self","cls","ctx")])

def test_functions_have_at_most_seven_parameters():
    "But for what users call themselves, and kernels of Triton"
    public = {*woofbench.__all__, 'Recipe'}
    many = [f'{name_of(o)}.{f.name}' for o in modules for f in ast.walk(tree(o)) if isinstance(f, ast.FunctionDef)
            and parameters_of(f)>7 and f.name not in public
            and not any('triton.jit' in ast.unparse(d) for d in f.decorator_list)]
    assert not many

def test_functions_have_at_most_25_lines():
    long = [f'{o.stem}.{f.name}: {n}' for o in modules for f in ast.walk(tree(o))
            if isinstance(f, (ast.FunctionDef,ast.AsyncFunctionDef))
            and (n := f.end_lineno-f.body[0].lineno+1) > 25]
    assert not long


def test_package_is_what_the_notebooks_export(tmp_path):
    for o in ('nbs','woofbench'):
        shutil.copytree(root/o, tmp_path/o, ignore=shutil.ignore_patterns('__pycache__','.ipynb_checkpoints'))
    for o in ('settings.ini','pyproject.toml','setup.py'): shutil.copy(root/o, tmp_path)
    for o in (tmp_path/'woofbench').rglob('*.py'):
        if o.name!='__init__.py': o.unlink()
    subprocess.run([Path(sys.executable).with_name('nbdev-export')], cwd=tmp_path, check=True, capture_output=True)
    def texts(p):
        return {o.relative_to(p).as_posix():o.read_text(encoding='utf-8') for o in (p/'woofbench').rglob('*.py')}
    assert texts(tmp_path)==texts(root)


def test_pages_are_in_step(monkeypatch):
    from woofbench.site.site import dead_links, site, stale
    monkeypatch.chdir(root)
    files = site()
    assert stale(files=files)==[]
    assert dead_links(files=files)==[]


def test_the_menu_of_the_documentation_has_every_page_once():
    from woofbench.site.docs import groups, nav, pages
    found = [o for o in pages(root) if o.endswith('.md')]
    def leaves(o):
        return [o] if isinstance(o, str) else [x for v in (o.values() if isinstance(o, dict) else o) for x in leaves(v)]
    menu = nav(found)
    assert sorted(leaves(menu))==sorted(found)
    assert set(groups) <= {k for o in menu for k in o}, 'a group without pages'

def test_every_command_has_a_page_with_an_example_and_its_flags():
    "From where `--help` has them; a new command needs a cell in the notebook of examples"
    from woofbench.commands.flags import verbs
    from woofbench.site.commands import command_pages
    pages = {k:v.decode() for k,v in command_pages(root).items()}
    for name in verbs:
        page = pages[f'docs/command/{name}.md']
        assert f'```console\n$ woofbench {name} ' in page or f'```console\n$ woofbench {name}\n' in page, name
    said = pages['docs/command/run.md']
    assert '| `--size SIZE` | Side of the images, px;' in said and '| `--lr LR` | Learning rate [0.01] |' in said

def test_dead_anchors_are_found(monkeypatch):
    from woofbench.site.site import dead_links
    monkeypatch.chdir(root)
    files = {'docs/a.md':b'# One\n\n[x](b.md#two) [y](b.md#three) [z](#one) [w](#four)', 'docs/b.md':b'# Two\n'}
    assert dead_links(files=files)==[('docs/a.md','b.md#three'), ('docs/a.md','#four')]

@pytest.mark.slow
def test_the_documentation_builds_and_asks_no_other_server(tmp_path):
    pytest.importorskip('zensical')
    import os
    from woofbench.site.docs import docs
    out = docs(root, os.path.relpath(tmp_path/'docs', root))
    pages = [*out.rglob('*.html')]
    assert len(pages)>100 and (out/'search.json').exists()
    load = re.compile(r'<(?:script|img)[^>]*\ssrc="(https?:[^"]+)"|<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(https?:[^"]+)"') # noqa: E501
    assert not {(o.name, m[0]) for o in pages for m in load.finditer(o.read_text(encoding='utf-8'))}


def test_leaderboard_is_what_the_records_give(cli):
    rc,_,err = cli(f'board --check --out {root}')
    assert rc==0, err


# What README, CONTRIBUTING and the Makefile tell people to type

def text_of(path):
    "The Markdown of a notebook, with commands on one line each"
    found = [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells']
             if c['cell_type']=='markdown']
    return re.sub(r' *\\\n *', ' ', '\n'.join(found))

def test_every_answer_has_a_command():
    answers = re.split(r'^### ', text_of(root/'nbs/faq.ipynb'), flags=re.M)[1:]
    assert len(answers)>10 and not [o for o in answers if '```sh\nwoofbench ' not in o or '?' not in o.split('\n')[0]]

def quoted():
    "(file, command) of every `make` and `woofbench` command that is quoted"
    prose = [o.relative_to(root).as_posix() for o in (root/'nbs/faq.ipynb', *(root/'nbs/lessons').glob('*.ipynb'))]
    for fn in ('README.md','CONTRIBUTING.md','Makefile', *prose):
        if not (root/fn).exists(): continue
        s = (root/fn).read_text(encoding='utf-8')
        if fn.endswith('.ipynb'): s = text_of(root/fn)
        spans = s.splitlines() if fn=='Makefile' else re.findall(r'`([^`\n]+)`',
                                                                 s) + [line for b in re.findall(r'```sh\n(.*?)```', s,
                                                                         re.S) for line in b.splitlines()]
        for o in spans:
            m = re.match(r'\s*@?!?(?:\$\(BIN\)/)?((?:make|woofbench) [a-z-].*)', o)
            if m and not m[1].startswith('make PYTHON'): yield fn, re.split(r'\s+#|\s+&&', m[1])[0].strip(' \\')

commands = sorted({c for _,c in quoted()})
targets = re.findall(r'^([a-z-]+):', (root/'Makefile').read_text(encoding='utf-8'), re.M)

def test_readme_starts_with_two_commands():
    readme = (root/'README.md').read_text(encoding='utf-8')
    assert 'make demo' in readme[:2500] and 'make test' in readme[:2500]

@pytest.mark.parametrize('command', [c for c in commands if c.startswith('make')])
def test_quoted_target_exists(command): assert set(o for o in shlex.split(command)[1:] if '=' not in o) <= set(targets)

@pytest.mark.parametrize('command', [c for c in commands if c.startswith('woofbench')])
def test_quoted_command_works(command, monkeypatch, tmp_path, registries_stay):
    from woofbench.commands.cli import main, make_parser
    argv = shlex.split(command)[1:]
    if '--help' in argv: return
    monkeypatch.chdir(tmp_path)
    _make_files(command)
    args = make_parser().parse_strict(argv)
    if args.command=='run': _recipe(args)
    if args.command=='parts': assert main(argv)==0
    given = vars(args)
    if args.command=='run' and given.get('dataset')=='digits' and 'import' not in command and 'seeds' not in given:
        assert main([*argv, '--epochs', '1', '--seeds', '1'])==0

def _make_files(command):
    "What a quoted command expects to be there, in the folder where you are"
    from woofbench import sample_photos
    from woofbench.commands.new import _starter
    for o in re.findall(r'--import (\w+)\.py', command):
        Path(f'{o}.py').write_text(_starter('trick.txt').replace('NAME', o))
    for o in re.findall(r'--dataset \./(\S+)', command): sample_photos(o, 2)

def _recipe(args):
    "Fields of a quoted run must make a recipe, even where its dataset is not here to train on"
    from woofbench.train.recipe import of_model, of_recipe, recipes
    from woofbench.data.own_images import as_dataset
    from woofbench.data.track import datasets
    given = vars(args)
    recipes(given.get('recipe') or datasets(as_dataset(args.dataset)).recipe)().but(**{k:v for k,
            v in given.items() if k in {'arch',*of_recipe,*of_model}})


@pytest.mark.parametrize('block',
                         re.findall(r'```python\n(.*?)```', (root/'README.md').read_text(encoding='utf-8'), re.S)
                         if (root/'README.md').exists() else [])
def test_python_in_the_readme_calls_what_there_is(block):
    import inspect, woofbench
    for o in ast.walk(ast.parse(block)):
        if isinstance(o, ast.Call) and isinstance(o.func, ast.Name) and o.func.id in ('run','learner'):
            inspect.signature(getattr(woofbench, o.func.id)).bind(*o.args, **{k.arg:None for k in o.keywords})


@pytest.mark.parametrize('command', ('', 'run', 'board', 'parts'))
def test_help(command, cli):
    rc,out,err = cli(f'{command} --help')
    assert rc==0 and 'usage: woofbench' in out and not err


def test_the_list_of_commands_waits_for_nothing_heavy():
    "Neither PyTorch nor pandas nor SciPy; verbs that only read records give their own help without PyTorch, too"
    code = """import sys
from woofbench.commands.cli import main
for words in (['--help'], ['check', '--help'], ['compare', '--help'], ['board', '--help']):
    try: main(words)
    except SystemExit: pass
print([o for o in ('torch','fastai','pandas','scipy','matplotlib') if o in sys.modules])"""
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1]=='[]' and '--margin' in out

def test_a_verb_is_one_function_and_a_field_one_line(cli, monkeypatch):
    "Nothing else says what flags there are"
    from dataclasses import dataclass
    from woofbench.commands.flags import verb, verbs
    @dataclass
    class Kennel:
        dogs:int = 3    # How many live in it
        open:bool = True # Is it open?
    monkeypatch.setattr('woofbench.data.track.Kennel', Kennel, raising=False)
    got = []
    @verb({'the kennel':'data.track:Kennel'}, times='often')
    def bark(
        dog:str, /, # Its name
        times:int=1, # How often
        **given
    ):
        "Let a dog bark"
        got.append((dog, times, given))
        return 7
    try:
        assert cli('bark Rex --often 2 --no-open --set dogs=4')[0]==7 and got==[('Rex', 2, dict(open=False, dogs=4))]
        assert cli('bark Rex')[0]==7 and got[1]==('Rex', 1, {})
        out = cli('bark --help')[1]
        assert 'the kennel:' in out and 'How many live in it [3]' in out and '--times, --often' in out.replace(' TIMES',
                '')
        for words,said in (('bark', 'DOG'), ('bark Rex --tims 2', 'did you mean --times'),
                           ('bark Rex --set dgs=4', 'did you mean dogs'),
                           ('bark Rex --set open=ajar', 'true or false')):
            rc,_,err = cli(words)
            assert rc==2 and said in err and len(err.splitlines())==1
        assert 'did you mean bark' in cli('brak Rex')[2]
    finally: del verbs['bark']

def test_every_field_of_a_recipe_is_a_flag():
    "By its name alone: nothing lists them. What is typed has the type of the field"
    from woofbench.commands.cli import make_parser
    from woofbench.models.spec import XResNetSpec
    from woofbench.text import value
    from woofbench.train.recipe import Recipe, of_model, of_recipe
    for k,f in (of_recipe|of_model).items():
        default = getattr(Recipe if k in of_recipe else XResNetSpec, k)
        if isinstance(default, bool): words,got = [f'--{"no-"*default}{k}'],not default
        else: words,got = [f'--{k}', '7'],value('7', f.type)
        for line in (words, ['--set', f'{k}={str(got).strip("(),")}']):
            assert vars(make_parser().parse_strict(['run', *line]))=={'command':'run', k:got}, k

def test_a_parameter_of_a_part_is_a_flag():
    "Also of a part that you register, and one that only a library's part tells"
    from woofbench.commands.cli import make_parser
    from woofbench.train.recipe import parameters
    def given(*words): return {k:v for k,v in vars(make_parser().parse_strict(['run', *words])).items() if k!='command'}
    numbers = [k for k,p in parameters().items() if type(p.default) is float]
    assert numbers
    for k in numbers: assert given('--'+k, '.25')==given('--set', f'{k}=.25')=={k:.25}
    assert given('--set', 'opt_nesterov=true', 'opt_rho=.5')==dict(opt_nesterov=True, opt_rho=.5)

def test_a_token_is_not_a_flag(cli):
    "Other users of a machine can read a command line"
    rc,_,err = cli('submit 12de --token secret')
    assert rc==2 and 'unknown flag' in err and '--token' not in cli('submit --help')[1]


# Words

def glossary():
    "(word, meaning) of every line of the glossary"
    import json
    text = '\n'.join(''.join(c['source'])
                     for c in json.loads((root/'nbs/glossary.ipynb').read_text(encoding='utf-8'))['cells'])
    return re.findall(r'^\| \*\*(.+?)\*\* \| (.+) \|$', text, re.M)

def test_a_word_has_one_meaning_in_the_glossary():
    words = [k.lower() for k,_ in glossary()]
    assert len(words)>60 and len(set(words))==len(words)

@pytest.mark.parametrize('word',
                         """record recipe track cell audit_flag review replication credit prefetch multi-seed schema
                            validation official_seed
    exploration_seed challenge engine capture p_beat tie_group practice_cell""".split())
def test_the_glossary_has_the_words_of_messages(word):
    assert word.replace('_', ' ').replace('p beat', 'p_beat') in dict(glossary())

def test_the_glossary_has_every_verdict():
    "Of the check, of a comparison, of a second run, and every status that a review gives"
    import inspect
    from woofbench.board import check, rules
    from woofbench.commands import verbs
    known = dict(glossary())
    source = inspect.getsource(rules)+inspect.getsource(check)
    said = set(re.findall(r"Verdict\('([a-z ]+)'", source)) | {o for o in ('valid','new best')
                                                               if f"'{o}'" in source}
    said |= set(re.findall(r"'([a-z ]+)':[13]", inspect.getsource(verbs))) - {'does not hold'}
    assert {'invalid','needs audit','valid'}<=said
    text = ' '.join(known) + ' '.join(known.values())
    assert not [o for o in said if o not in text]


# One truth per fact

def test_metadata_agrees():
    import woofbench
    pyproject,setup = (root/'pyproject.toml').read_text(
            encoding='utf-8'),(root/'settings.ini').read_text(encoding='utf-8')
    cfg = ConfigParser(delimiters=['='])
    cfg.read_string(setup)
    cfg = cfg['DEFAULT']
    dist = distribution('woofbench')
    assert woofbench.__version__ in (
            root/'CHANGELOG.md').read_text(
                    encoding='utf-8') or 'Unreleased' in (root/'CHANGELOG.md').read_text(encoding='utf-8')
    assert dist.version==woofbench.__version__
    assert re.search(r'^name = "(.+)"', pyproject, re.M)[1]==dist.name=='woofbench'
    for k in ('version','description','lib_name','min_python','nbs_path'):
        assert k not in cfg, f'{k} is in pyproject.toml or __init__.py already'
    wanted = {re.split('[<>=!~;]', o)[0] for o in cfg['requirements'].split()}
    assert wanted=={re.split(r'[<>=!~ ;\[]', o)[0] for o in dist.requires if 'extra' not in o}
    assert [f'{e.name} = {e.value}' for e in dist.entry_points if e.group
            =='console_scripts']==cfg['console_scripts'].strip().splitlines()

def test_repository_address_is_one_field():
    repo = re.search(r'^Repository = "(.+)"', (root/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]
    sources = [*modules, root/'settings.ini', root/'setup.py', root/'CONTRIBUTING.md']
    assert not [o.name for o in sources if repo in o.read_text(encoding='utf-8')]
