"The rules of the house: who imports whom, who writes, how long things are, and that what is written down is true"
import ast, re, shlex, shutil, subprocess, sys
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path
import pytest
from conftest import root
from structure import circle, folder_of, module_graph, modules as modules_in
from woofbench.site.site import subpackages

package = root/'woofbench'
paths,graph = modules_in(root),module_graph(root)
modules = list(paths.values())
order = ['', *subpackages] # the modules beside them come first; each imports from those before it
writers = set('board.record.record board.table commands.request commands.run data.manifest data.store files site.docs site.page site.site train.learner web.build'.split())


def name_of(path): return '.'.join(path.relative_to(package).with_suffix('').parts)

def tree(path): return ast.parse(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('module', sorted(graph))
def test_imports_point_to_earlier_sub_packages(module):
    me = order.index(folder_of(module))
    later = {o for o in graph[module] if order.index(folder_of(o))>me}
    assert not later, f'{module} imports {later}'


def test_every_sub_package_is_in_the_list():
    assert {folder_of(o) for o in graph}==set(order)

def test_every_sub_package_opens_with_an_index():
    assert not [o for o in subpackages if '/' not in o and not (root/'nbs'/o/'00_index.ipynb').exists()]


def test_imports_have_no_circle(): assert circle(graph) is None


def _without_main(t):
    t.body = [o for o in t.body if not (isinstance(o, ast.If) and '__name__' in ast.unparse(o.test))]
    return t

@pytest.mark.parametrize('path', modules, ids=lambda o: o.stem)
def test_argv_is_read_only_in_cli(path):
    reads = [o.lineno for o in ast.walk(_without_main(tree(path))) if isinstance(o, ast.Attribute) and o.attr=='argv' or isinstance(o, ast.Name) and o.id=='argv']
    assert not reads or name_of(path)=='commands.cli', f'{path.name} reads argv in lines {reads}'


def _writes(o):
    if not isinstance(o, ast.Call): return False
    f = ast.unparse(o.func)
    if f in ('open','io.open') or f.endswith('.open'):
        mode = next((k.value for k in o.keywords if k.arg=='mode'), o.args[1] if len(o.args)>1 and f in ('open','io.open') else None)
        return isinstance(mode, ast.Constant) and bool(set(mode.value) & set('wax+'))
    return f.split('.')[-1] in 'write_text write_bytes write_atomic write_record unlink rmtree mkdir rmdir touch rename symlink_to'.split() or f in ('os.replace','os.remove','torch.save')

@pytest.mark.parametrize('path', modules, ids=lambda o: o.stem)
def test_files_are_written_by_few(path):
    lines = [o.lineno for o in ast.walk(tree(path)) if _writes(o)]
    assert not lines or name_of(path) in writers, f'{path.name} writes files in lines {lines}'


def test_functions_have_at_most_25_lines():
    long = [f'{o.stem}.{f.name}: {n}' for o in modules for f in ast.walk(tree(o)) if isinstance(f, (ast.FunctionDef,ast.AsyncFunctionDef))
            and (n := f.end_lineno-f.body[0].lineno+1) > 25]
    assert not long


def test_package_is_what_the_notebooks_export(tmp_path):
    for o in ('nbs','woofbench'): shutil.copytree(root/o, tmp_path/o, ignore=shutil.ignore_patterns('__pycache__','.ipynb_checkpoints'))
    for o in ('settings.ini','pyproject.toml','setup.py'): shutil.copy(root/o, tmp_path)
    for o in (tmp_path/'woofbench').rglob('*.py'):
        if o.name!='__init__.py': o.unlink()
    subprocess.run([Path(sys.executable).with_name('nbdev-export')], cwd=tmp_path, check=True, capture_output=True)
    def texts(p): return {o.relative_to(p).as_posix():o.read_text(encoding='utf-8') for o in (p/'woofbench').rglob('*.py')}
    assert texts(tmp_path)==texts(root)


def test_pages_are_in_step(monkeypatch):
    from woofbench.site.site import dead_links, stale
    monkeypatch.chdir(root)
    assert stale()==[]
    assert dead_links()==[]


def test_the_menu_of_the_documentation_has_every_page_once():
    from woofbench.site.docs import groups, nav, pages
    found = [o for o in pages(root) if o.endswith('.md')]
    def leaves(o): return [o] if isinstance(o, str) else [x for v in (o.values() if isinstance(o, dict) else o) for x in leaves(v)]
    menu = nav(found)
    assert sorted(leaves(menu))==sorted(found)
    assert set(groups) <= {k for o in menu for k in o}, 'a group without pages'

def test_the_documentation_builds_and_asks_no_other_server(tmp_path):
    pytest.importorskip('zensical')
    import os
    from woofbench.site.docs import docs
    out = docs(root, os.path.relpath(tmp_path/'docs', root))
    pages = [*out.rglob('*.html')]
    assert len(pages)>100 and (out/'search.json').exists()
    load = re.compile(r'<(?:script|img)[^>]*\ssrc="(https?:[^"]+)"|<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(https?:[^"]+)"')
    assert not {(o.name, m[0]) for o in pages for m in load.finditer(o.read_text(encoding='utf-8'))}


def test_leaderboard_is_what_the_records_give(cli):
    rc,_,err = cli(f'board --check --out {root}')
    assert rc==0, err


# What README, CONTRIBUTING and the Makefile tell people to type

def quoted():
    "(file, command) of every `make` and `woofbench` command that is quoted"
    for fn in ('README.md','CONTRIBUTING.md','Makefile'):
        if not (root/fn).exists(): continue
        s = (root/fn).read_text(encoding='utf-8')
        spans = s.splitlines() if fn=='Makefile' else re.findall(r'`([^`\n]+)`', s) + [line for b in re.findall(r'```sh\n(.*?)```', s, re.S) for line in b.splitlines()]
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
def test_quoted_command_works(command, monkeypatch, tmp_path):
    from woofbench.commands.cli import main, make_parser
    argv = shlex.split(command)[1:]
    if '--help' in argv: return
    args = make_parser().parse_strict(argv)
    if args.command=='run': _recipe(args)
    if args.command=='parts': assert main(argv)==0
    if args.command=='run' and args.dataset=='digits':
        monkeypatch.chdir(tmp_path)
        assert main([*argv, '--epochs', '1', '--seeds', '1'])==0

def _recipe(args):
    "Fields of a quoted run must make a recipe, even where its dataset is not here to train on"
    from woofbench.commands.flags import fields_of
    from woofbench.train.recipe import recipes
    from woofbench.data.track import datasets
    recipes(args.recipe or datasets(args.dataset).recipe)().but(**fields_of(args))


@pytest.mark.parametrize('block', re.findall(r'```python\n(.*?)```', (root/'README.md').read_text(encoding='utf-8'), re.S) if (root/'README.md').exists() else [])
def test_python_in_the_readme_calls_what_there_is(block):
    import inspect, woofbench
    for o in ast.walk(ast.parse(block)):
        if isinstance(o, ast.Call) and isinstance(o.func, ast.Name) and o.func.id in ('run','learner'):
            inspect.signature(getattr(woofbench, o.func.id)).bind(*o.args, **{k.arg:None for k in o.keywords})


@pytest.mark.parametrize('command', ('', 'run', 'board', 'parts'))
def test_help(command, cli):
    rc,out,err = cli(f'{command} --help')
    assert rc==0 and 'usage: woofbench' in out and not err


# One truth per fact

def test_metadata_agrees():
    import woofbench
    pyproject,setup = (root/'pyproject.toml').read_text(encoding='utf-8'),(root/'settings.ini').read_text(encoding='utf-8')
    cfg = ConfigParser(delimiters=['=']); cfg.read_string(setup); cfg = cfg['DEFAULT']
    dist = distribution('woofbench')
    assert woofbench.__version__ in (root/'CHANGELOG.md').read_text(encoding='utf-8') or 'Unreleased' in (root/'CHANGELOG.md').read_text(encoding='utf-8')
    assert dist.version==woofbench.__version__
    assert re.search(r'^name = "(.+)"', pyproject, re.M)[1]==dist.name=='woofbench'
    for k in ('version','description','lib_name','min_python','nbs_path'): assert k not in cfg, f'{k} is in pyproject.toml or __init__.py already'
    wanted = {re.split('[<>=!~]', o)[0] for o in cfg['requirements'].split()}
    assert wanted=={re.split(r'[<>=!~ ;\[]', o)[0] for o in dist.requires if 'extra' not in o}
    assert [f'{e.name} = {e.value}' for e in dist.entry_points if e.group=='console_scripts']==cfg['console_scripts'].strip().splitlines()

def test_repository_address_is_one_field():
    repo = re.search(r'^Repository = "(.+)"', (root/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]
    sources = [*modules, root/'settings.ini', root/'setup.py', root/'CONTRIBUTING.md']
    assert not [o.name for o in sources if repo in o.read_text(encoding='utf-8')]
