"The workflows as text, and their scripts at work on pull requests that mean harm"
import base64, io, re, shutil, stat, subprocess, sys, tarfile
from configparser import ConfigParser
from pathlib import Path
import pytest
import yaml
from conftest import root
from pulls import board, put, rule
from woofbench.board.record.record import record_path
from warm import program

actions,scripts = root/'.github'/'workflows',root/'.github'/'scripts'
texts = {o.name:o.read_text(encoding='utf-8') for o in sorted(actions.glob('*.yml'))}
flows = {k:yaml.safe_load(v) for k,v in texts.items()}
bin_ = Path(sys.executable).parent


writing = 'board.yml','pages.yml' # workflows with a job that pushes


def steps(flow): return [s for j in flow['jobs'].values() for s in j['steps']]

def triggers(flow): return flow.get('on', flow.get(True)) # YAML 1.1 takes `on` for a truth


@pytest.mark.parametrize('name', texts)
def test_nothing_of_a_pull_request_gets_into_a_command(name):
    assert not [s for s in steps(flows[name]) if '${{' in s.get('run', '')]
    assert 'pull_request_target' not in texts[
            name] and 'workflow_run' not in texts[
                    name] and 'allow-unsafe' not in texts[name] and 'secrets.' not in texts[name]
    said = set(re.findall(r'\$\{\{\s*(.*?)\s*\}\}', texts[name]))
    # numbers and hashes, which nobody can write
    assert said <= {'matrix.os', 'matrix.python', 'github.event.pull_request.number',
                    'github.event.pull_request.base.sha'} | ({'github.sha', 'github.token'} if name in writing
                                                             else set())

@pytest.mark.parametrize('name', texts)
def test_permissions(name):
    flow = flows[name]
    assert flow['permissions']==dict(contents='read')
    more = {k:j['permissions'] for k,j in flow['jobs'].items() if 'permissions' in j}
    allowed = {'board.yml':dict(push=dict(contents='write')),
               'pages.yml':dict(deploy={'pages':'write', 'id-token':'write'}, notebooks=dict(contents='write')),
               'release.yml':dict(publish={'id-token':'write'})}
    assert more==allowed.get(name, {})

def test_only_a_push_to_main_may_write():
    assert all(triggers(flows[o])==dict(push=dict(branches=['main'])) for o in writing)
    assert set(triggers(flows['check.yml']))=={'pull_request'}
    assert all('github.token' not in o or k in writing for k,o in texts.items()) and not [k for k,
            o in texts.items() if 'GITHUB_TOKEN' in o]

def test_the_job_with_the_token_runs_git_and_tar_alone():
    for name,first,last,script in (('board.yml','rebuild','push','push-board.sh'),
                                   ('pages.yml','build','notebooks','push-notebooks.sh')):
        build,push = (flows[name]['jobs'][k]['steps'] for k in (first, last))
        assert 'token' not in str(build)
        assert [s.get('run') or s['uses'].split('@')[0] for s in push]==[
                'actions/checkout','actions/download-artifact',f'.github/scripts/{script}']
        assert [k for s in push for k,v in s.get('env', {}).items() if 'token' in v]==['TOKEN']
        words = re.findall(r'^\s*(?:if |then |export |)(\w[\w-]*)', (scripts/script).read_text(encoding='utf-8'), re.M)
        assert not {'python','pip','woofbench','make','node'} & set(words)

def test_everything_that_is_used_is_pinned():
    for name,flow in flows.items():
        for s in steps(flow):
            if 'uses' in s:
                assert re.fullmatch(r'(actions/[\w-]+|pypa/gh-action-pypi-publish)@[0-9a-f]{40}', s['uses']), (name, s)
    lock = (root/'.github'/'requirements.txt').read_text(encoding='utf-8')
    blocks = re.split(r'\n(?=\S)', re.sub(r'(?m)^#.*\n', '', lock).strip())
    for o in blocks:
        assert re.fullmatch(r'[A-Za-z0-9._-]+==[\w.+!-]+(?: ; [^\n]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+',
                            o), o[:200]
    have = {re.split('[=[]', o)[0].lower().replace('_', '-') for o in blocks}
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini')
    wanted = {re.split(r'[<>=!~ ;[]', o)[0].lower()
              for k in ('requirements','docs_requirements','submit_requirements','dev_requirements')
              for o in cfg['DEFAULT'][k].split()} | {'setuptools'}
    assert wanted<=have, f'{wanted-have}: make lock'
    for name in ('check.yml','board.yml'):
        pips = [s['run'] for s in steps(flows[name]) if 'pip' in s.get('run', '')]
        assert len(pips)==2 and '--require-hashes' in pips[0] and '--no-deps --no-build-isolation' in pips[1]

def test_the_base_is_checked_out_and_leaves_no_credentials():
    first = steps(flows['check.yml'])[0]
    assert first['with']==dict(ref='${{ github.event.pull_request.base.sha }}') | {'fetch-depth':0,
            'persist-credentials':False}
    for flow in flows.values():
        assert {s['with']['persist-credentials'] for s in steps(flow)
                if s.get('uses', '').startswith('actions/checkout')}=={False}

def test_rows_alone_do_not_start_the_tests():
    for o in triggers(flows['ci.yml']).values(): assert o['paths-ignore']==['records/**']

def test_scripts_are_there():
    called = {m for t in texts.values() for m in re.findall(r'\.github/scripts/[\w.-]+', t)}
    assert called=={o.relative_to(root).as_posix() for o in scripts.iterdir()}
    for o in scripts.iterdir():
        s = o.read_text(encoding='utf-8')
        assert o.stat().st_mode & stat.S_IXUSR and s.startswith('#!/usr/bin/env bash\n') and 'set -euo pipefail' in s
        assert not re.search(r'\beval\b|\$\(<|\bsource\b|(^|\s)\.\s',
                             re.sub(r'(?m)^#.*', '', s).replace('check . |', ''))
        subprocess.run(['bash', '-n', o], check=True)

@pytest.mark.skipif(not shutil.which('shellcheck'), reason='no shellcheck here')
def test_shellcheck(): subprocess.run(['shellcheck', *scripts.iterdir()], check=True)

def test_rows_have_no_owner_and_all_else_has():
    lines = [o.split() for o in (root/'.github'/'CODEOWNERS').read_text(encoding='utf-8').splitlines() if o
             and o[0]!='#']
    # the last one that fits counts
    assert [o[0] for o in lines]==['*','/records/'] and len(lines[0])==2 and len(lines[1])==1


# At work

@pytest.fixture(scope='module')
def origin(tmp_path_factory): return board(tmp_path_factory.mktemp('origin')/'repo')

@pytest.fixture(scope='module')
def base(origin, tmp_path_factory):
    "What the workflow has checked out"
    out = tmp_path_factory.mktemp('base')/'repo'
    subprocess.run(['git', 'clone', '-q', f'file://{origin.path}', out], check=True, env=origin.env)
    return out

def check(origin, base, head, tmp_path, **env):
    "Run the script on pull request 7, with the environment of the workflow: exit code, log, summary"
    origin.git('update-ref', 'refs/pull/7/head', head)
    summary = tmp_path/'summary'
    env = origin.env | dict(PULL='7', BASE=origin.base, GITHUB_STEP_SUMMARY=str(summary),
                            WOOFBENCH=program(tmp_path)) | env
    p = subprocess.run([scripts/'check-pull-request.sh'], cwd=base, env=env, capture_output=True, timeout=200)
    return p.returncode, (p.stdout+p.stderr).decode(), summary.read_text() if summary.exists() else ''

def runs(origin): return f'open({str(origin.path.parent/"canary")!r}, "w").write("ran")\n'.encode()

def commands(log):
    "Lines that the log takes for commands: all but those between stop and token"
    lines,out,token = log.splitlines(),[],None
    for o in lines:
        m = re.fullmatch(r'::stop-commands::([0-9a-f]{32})', o)
        if token is None and m: token = m[1]
        elif o==f'::{token}::': token = None
        elif token is None and (o.lstrip().startswith('::') or '##[' in o): out.append(o)
    return out if token is None else ['not ended']

def test_a_good_row(origin, base, tmp_path):
    row = origin.dogs.entry(code=origin.code, lr=7e-3)
    rc,log,summary = check(origin, base, origin.commit(put(row), origin.base), tmp_path)
    assert rc==0 and 'of the rules' in log and commands(log)==[], log
    assert row['record_id'] in summary and summary.count('\n')<12

def test_hostile(origin, base, tmp_path):
    "Everything at once: code wherever something might run it, links, edits, and paths that are commands"
    row,run = origin.dogs.entry(code=origin.code, lr=7e-3),runs(origin)
    other = record_path(origin.rows[0]).as_posix()
    files = {o:run for o in ('conftest.py','sitecustomize.py','usercustomize.py','setup.py','woofbench/__init__.py',
                             'woofbench/board/check.py','json.py','.github/scripts/check-pull-request.sh',
                             '::error::pwned','a\n::set-output name=x::y')}
    files |= {'.gitattributes':b'* filter=x\n', 'hooks/post-checkout':('100755', run),
              '.gitmodules':b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c id\n', 'x':('160000', origin.base),
              other:b'{}',
              'records/::add-mask::x':run, 'records/$(id)`id`"\';|<b>':('120000', b'/etc/passwd')}
    rc,log,summary = check(origin, base, origin.commit(put(row) | files, origin.base), tmp_path,
                           WOOFBENCH=str(bin_/'woofbench')) # a new process, since code may also run while Python begins
    assert rc==1 and '**invalid**' in log and commands(log)==[], log
    assert '**invalid**' in summary and not (origin.path.parent/'canary').exists()
    assert subprocess.run(['git', '-C', base, 'status', '--porcelain'], capture_output=True, env=origin.env).stdout==b''
    for o in summary.splitlines(): assert o.count('`')%2==0 and not set(''.join(o.split('`')[::2])) & set('<>()[]$"')

def test_no_common_history(origin, base, tmp_path):
    rc,log,_ = check(origin, base, origin.commit({'a':b'b'}), tmp_path)
    assert rc==2 and 'no commit in common' in log and 'Traceback' not in log

@pytest.mark.parametrize('env',
                         [dict(PULL='7; touch canary'), dict(PULL='$(id)'), dict(PULL=''), dict(PULL='7\n8'),
                          dict(BASE='main; id'), dict(BASE='--output=x'), dict(BASE='')], ids=str)
def test_odd_environment(origin, base, tmp_path, env):
    rc,log,_ = check(origin, base, origin.base, tmp_path, **env)
    assert rc==2 and ' is not ' in log and not (base/'canary').exists()


@pytest.fixture
def merged(origin, tmp_path):
    "A bare origin where a row was merged, and main checked out: the branch, the pages' notebooks left out"
    bare,work = tmp_path/'bare',tmp_path/'work'
    subprocess.run(['git', 'clone', '-q', '--bare', f'file://{origin.path}', bare], check=True, env=origin.env)
    subprocess.run(['git', 'clone', '-q', bare, work], check=True, env=origin.env)
    return bare,work

def land(origin, bare, work, files):
    for p,raw in files.items():
        (work/p).parent.mkdir(parents=True, exist_ok=True)
        (work/p).write_bytes(raw)
    for args in (('add', '-A'), ('commit', '-qm', 'row'), ('push', '-q', 'origin', 'main')):
        subprocess.run(['git', '-C', work, *args], check=True, env=origin.env)

def rebuild(origin, work, tmp_path, packed=None):
    fake = tmp_path/'python' # the pages are made by another test
    fake.write_text('#!/bin/sh\nmkdir -p docs && echo "$@" >> docs/made && cp docs/made README.md\n')
    fake.chmod(0o755)
    packed = tmp_path/'board.tar' if packed is None else packed
    return subprocess.run([scripts/'rebuild-board.sh'], cwd=work,
                          env=origin.env | dict(PACKED=str(packed), WOOFBENCH=program(tmp_path), PYTHON=str(fake)),
                          capture_output=True, text=True, timeout=200)

def push(origin, work, tmp_path, branch='main', packed=None):
    env = {k:v for k,v in origin.env.items() if not k.startswith('PYTHON')} | dict(BRANCH=branch,
            PACKED=str(packed or tmp_path/'board.tar'), TOKEN='t0ken')
    return subprocess.run([scripts/'push-board.sh'], cwd=work, env=env, capture_output=True, text=True, timeout=200)

def head(bare): return subprocess.run(['git', '-C', bare, 'rev-parse', 'main'], capture_output=True, check=True).stdout

def test_rebuild(origin, merged, tmp_path):
    bare,work = merged
    row = origin.dogs.entry(code=origin.code, lr=6e-3)
    land(origin, bare, work, put(row))
    p = rebuild(origin, work, tmp_path)
    assert p.returncode==0 and commands(p.stdout)==[], p
    fresh = tmp_path/'fresh' # another machine, which has the archive and nothing else
    subprocess.run(['git', 'clone', '-q', bare, fresh], check=True, env=origin.env)
    p = push(origin, fresh, tmp_path)
    assert p.returncode==0, p
    def show(what):
        return subprocess.run(['git', '-C', bare, *what], capture_output=True, text=True, check=True,
                              env=origin.env).stdout
    assert row['record_id'] in show(['show', 'main:leaderboard.csv']) and show(['show',
            'main:docs/made'])=='-m woofbench.site readme\n'
    assert show(['diff', '--name-only', 'main~', 'main']).split()==['README.md','docs/made','leaderboard.csv']
    kept = ''.join(o.read_text(errors='replace') for o in (fresh/'.git').rglob('*') if o.is_file())
    assert 't0ken' not in kept and base64.b64encode(
            b'x-access-token:t0ken').decode() not in kept, 'the token is kept nowhere'
    assert push(origin, fresh, tmp_path).stdout=='The board is in step\n'

def test_a_bad_row_stops_the_board(origin, merged, tmp_path):
    bare,work = merged
    row = origin.dogs.entry(code=origin.code, lr=6e-3)
    land(origin, bare, work, {k:v.replace(b'"correct": 2', b'"correct": 3', 1) for k,v in put(row).items()})
    assert rebuild(origin, work, tmp_path).returncode in (1, 2) and not (tmp_path/'board.tar').exists()
    assert rebuild(origin, work, tmp_path, packed='').returncode==2

def test_a_row_that_needs_an_audit_stops_the_board_until_there_is_a_ruling(origin, merged, tmp_path):
    bare,work = merged
    row = origin.dogs.entry(acc=.95, code=origin.code, lr=6e-3)
    land(origin, bare, work, put(row))
    p = rebuild(origin, work, tmp_path)
    assert p.returncode==3 and 'plausible' in p.stdout and not (tmp_path/'board.tar').exists(), p
    subprocess.run(['git', '-C', work, 'checkout', '-q', '.'], check=True, env=origin.env)
    land(origin, bare, work, rule(row, 'audited'))
    assert rebuild(origin, work, tmp_path).returncode==0

def archive(path, *entries):
    with tarfile.open(path, 'w') as t:
        for name,kind in entries:
            o = tarfile.TarInfo(name)
            o.type,o.linkname = kind,'/etc/passwd'
            t.addfile(o)
    return path

FILE,FOLDER = tarfile.REGTYPE,tarfile.DIRTYPE
good = (('leaderboard.csv', FILE), ('README.md', FILE), ('docs', FOLDER))

@pytest.mark.parametrize('entry',
                         [('docs/x', tarfile.SYMTYPE), ('docs/x', tarfile.LNKTYPE), ('docs/p', tarfile.FIFOTYPE),
                          ('setup.py', FILE), ('docs/../setup.py', FILE), ('/etc/x', FILE), ('docs/.git/hooks/x', FILE),
                          ('docs/a b', FILE), ('.github/workflows/x.yml', FILE)], ids=str)
def test_an_archive_with_something_else_in_it_is_not_pushed(origin, merged, tmp_path, entry):
    bare,work = merged
    before = head(bare)
    p = push(origin, work, tmp_path, packed=archive(tmp_path/'evil.tar', *good, entry))
    assert p.returncode==1 and 'archive has' in p.stderr and head(bare)==before, p

def test_a_long_archive_is_read_to_its_end(origin, merged, tmp_path):
    """A filter that leaves at its first hit would let tar fail, and that look like no hit; and git takes no settings
    from what is unpacked"""
    bare,work = merged
    before,path = head(bare),tmp_path/'long.tar'
    canary,text = tmp_path/'canary',b''
    with tarfile.open(path, 'w') as t:
        link = tarfile.TarInfo('docs')
        link.type,link.linkname = tarfile.SYMTYPE,'.git'
        for name in ('leaderboard.csv','README.md'): t.addfile(tarfile.TarInfo(name))
        t.addfile(link)
        text = f'[core]\n\tfsmonitor = "sh -c \'echo $TOKEN > {canary}\'"\n'.encode()
        conf = tarfile.TarInfo('docs/config')
        conf.size = len(text)
        t.addfile(conf, io.BytesIO(text))
        for i in range(4000): t.addfile(tarfile.TarInfo(f'docs/{"x"*90}{i}.md'))
    p = push(origin, work, tmp_path, packed=path)
    assert p.returncode==1 and 'archive has' in p.stderr and head(bare)==before and not canary.exists(), p

def push_notebooks(origin, work, folder, branch='notebooks'):
    env = {k:v for k,v in origin.env.items() if not k.startswith('PYTHON')} | dict(BRANCH=branch, FOLDER=str(folder),
                                                                                  TOKEN='t0ken')
    return subprocess.run([scripts/'push-notebooks.sh'], cwd=work, env=env, capture_output=True, text=True, timeout=200)

def test_rows_notebooks_have_a_branch_of_their_own(origin, merged, tmp_path):
    """Each push replaces the one before, leaves the main branch and the checkout as they are, and takes nothing but
    notebooks; the pages link to that branch"""
    from woofbench.web.export import BRANCH
    (bare,work),folder = merged,tmp_path/'notebooks'
    def git(*what):
        return subprocess.run(['git', *what], capture_output=True, text=True, check=True, env=origin.env).stdout
    before,mine = head(bare),git('-C', work, 'status', '--porcelain')
    step = next(s for s in flows['pages.yml']['jobs']['notebooks']['steps'] if 'run' in s)
    assert step['env']['BRANCH']==BRANCH and step['env']['FOLDER']==folder.name
    folder.mkdir()
    for names in (('aa','bb'), ('bb','cc')):
        for o in folder.iterdir(): o.unlink()
        for o in names: (folder/f'{o}.ipynb').write_text(f'{{"is":"{o}"}}')
        p = push_notebooks(origin, work, folder)
        assert p.returncode==0, p
        assert git('-C', bare, 'ls-tree', '-r', '--name-only', BRANCH).split()==[f'rows/{o}.ipynb' for o in names]
        assert git('-C', bare, 'show', f'{BRANCH}:rows/bb.ipynb')=='{"is":"bb"}'
        assert git('-C', bare, 'rev-list', '--count', BRANCH).strip()=='1'
    assert head(bare)==before and git('-C', work, 'status', '--porcelain')==mine
    kept = ''.join(o.read_text(errors='replace') for o in (work/'.git').rglob('*') if o.is_file())
    assert 't0ken' not in kept and base64.b64encode(b'x-access-token:t0ken').decode() not in kept

def test_other_things_do_not_get_onto_the_branch_of_notebooks(origin, merged, tmp_path):
    (bare,work),folder = merged,tmp_path/'notebooks'
    assert push_notebooks(origin, work, folder).returncode==2
    folder.mkdir()
    assert push_notebooks(origin, work, folder).stdout=='There are no notebooks\n'
    (folder/'aa.ipynb').write_text('{}')
    for o in ('main', 'main; id', '', '--force', '../x'): assert push_notebooks(origin, work, folder, o).returncode==2
    for odd in ('x.ipynb', 'setup.py', '.gitattributes', 'bb.ipynb/cc.ipynb', 'dd.ipynb'):
        (folder/odd).parent.mkdir(exist_ok=True)
        if odd=='dd.ipynb': (folder/odd).symlink_to('/etc/passwd')
        else: (folder/odd).write_text('{}')
        assert push_notebooks(origin, work, folder).returncode==1, odd
        shutil.rmtree(folder/'bb.ipynb', ignore_errors=True)
        (folder/odd).unlink(missing_ok=True)
    there = subprocess.run(['git', '-C', bare, 'rev-parse', '-q', '--verify', 'notebooks'], capture_output=True)
    assert there.returncode, 'nothing was pushed'

def test_odd_branches_are_not_pushed_to(origin, merged, tmp_path):
    for o in ('main; id', '', '--force', '../x'):
        assert push(origin, merged[1], tmp_path, branch=o, packed=archive(tmp_path/'o.tar', *good)).returncode==2
    assert push(origin, merged[1], tmp_path, packed=tmp_path/'none').returncode==2
