"`woofbench new`: a trick that runs at once, and a board whose workflows work"
import os, re, shutil, stat, subprocess
from importlib.resources import files
from pathlib import Path
import pytest
import yaml
from conftest import root
from pulls import doctored, put
from test_imports import here  # noqa: F401  a folder from which commands are started
from woofbench.board.record.git import source_here
from woofbench.commands.new import new_board
from woofbench.commands.request import claimed
from woofbench.commands.run import run
from woofbench.models.parts import acts
from woofbench.registry import BadInput
from warm import program


# A trick

def test_a_new_trick_runs_at_once(here, cli):  # noqa: F811
    rc,out,_ = cli('new trick my_idea')
    assert rc==0 and (here/'my_idea.py').is_file()
    line = out.strip().partition('woofbench ')[2]
    assert line=='run --dataset digits --import my_idea.py --act my_idea'
    rc,out,err = cli(f'{line} --size 16 --epochs 1 --seeds 1')
    assert rc==0 and 'my_idea' in out and 'has no rank until the code is merged' in out, err
    assert (here/'my_idea.py').read_text().count('woofbench ')>=4
    acts.pop('my_idea')

def test_what_the_comment_of_a_new_trick_shows_works(here, cli):  # noqa: F811
    assert cli('new trick other_idea')[0]==0
    text = (here/'other_idea.py').read_text()
    shown = '\n'.join(o[6:] for o in text.split('here `--act-slope`:\n')[1].splitlines())
    (here/'sloped.py').write_text('import torch\nfrom torch import nn\nfrom woofbench.models.parts import acts\n'
                                  + shown.replace('other_idea', 'sloped'))
    rc,out,err = cli('run --import sloped.py --act sloped --act-slope 2 --dataset digits --size 16 --epochs 1 '
                     '--seeds 1')
    assert rc==0 and 'act_slope=2.0' in out, err
    acts.pop('sloped')

@pytest.mark.parametrize('name,said', [
    ('mish', "act 'mish' is there already"), ('json', 'a Python module json'), ('My', 'small letters'),
    ('a-b', 'small letters'), ('../x', 'small letters'), ('mine', 'stays as it is'), ('x'*41, 'small letters')])
def test_a_name_that_cannot_be_a_trick(here, refused, name, said):  # noqa: F811
    text = (here/'mine.py').read_text()
    assert said in refused(f'new trick {name}')
    assert (here/'mine.py').read_text()==text

def test_new_takes_a_trick_or_a_board(refused):
    assert 'a trick or a board' in refused('new trik x')
    assert '--anonymous is for a board' in refused('new trick x --anonymous')


# A board

def git(repo, *args):
    who = '-c', 'user.name=a', '-c', 'user.email=a@example.org'
    return subprocess.run(['git', '-C', repo, *who, *args], capture_output=True, text=True, check=True).stdout.strip()

@pytest.fixture(scope='module')
def row(tmp_path_factory):
    return run('digits', size=16, epochs=1, seeds=1, out=tmp_path_factory.mktemp('row'), say=None).record

@pytest.fixture
def course(tmp_path, cli):
    "A new board, pushed to a bare repository; the clone that a workflow has"
    rc,out,_ = cli(f'new board {tmp_path}/made --anonymous')
    assert rc==0 and 'README.md' in out
    bare,work = tmp_path/'course.git',tmp_path/'course'
    git(tmp_path, 'init', '-q', '--bare', '-b', 'main', str(bare))
    git(tmp_path/'made', 'init', '-qb', 'main')
    commit(tmp_path/'made', {}, bare)
    git(tmp_path, 'clone', '-q', str(bare), str(work))
    return work

def commit(work, files, to='origin', ref='main'):
    for p,raw in files.items():
        (work/p).parent.mkdir(parents=True, exist_ok=True)
        (work/p).write_bytes(raw)
    git(work, 'add', '-A')
    git(work, 'commit', '-qm', 'change')
    git(work, 'push', '-q', str(to), f'HEAD:{ref}')
    return git(work, 'rev-parse', 'HEAD')

def script(work, name, **env):
    mine = {k:v for k,v in os.environ.items() if not k.startswith('GIT')}
    p = subprocess.run([work/'.github'/'scripts'/f'{name}.sh'], cwd=work,
                       env=mine | dict(WOOFBENCH=program(work.parent)) | env,
                       capture_output=True, text=True, timeout=200)
    return p.returncode, p.stdout+p.stderr

def pull(work, rec):
    "Exit codes and logs of the check of a pull request that brings a record"
    base = git(work, 'rev-parse', 'HEAD')
    git(work, 'checkout', '-qb', 'row')
    commit(work, put(rec), ref='refs/pull/7/head')
    git(work, 'checkout', '-q', 'main')
    git(work, 'branch', '-qD', 'row')
    steps = yaml.safe_load((work/'.github'/'workflows'/'check.yml').read_text())['jobs']['rows']['steps']
    names = [Path(s['run']).stem for s in steps if s.get('run', '').startswith('.github')]
    assert names==['check-pull-request', 'check-anonymous']
    return [script(work, o, PULL='7', BASE=base) for o in names]

def test_a_row_on_a_new_board(course, row, tmp_path):
    "Handed in, merged, in the table, pushed"
    assert script(course, 'rebuild-board')[0]==0, 'a board without rows is in order'
    for rc,log in pull(course, row): assert rc==0, log
    commit(course, put(row))
    rc,log = script(course, 'rebuild-board')
    assert rc==0 and row.record_id in (course/'leaderboard.csv').read_text(), log
    shutil.copy(course/'leaderboard.csv', tmp_path/'table.csv')
    git(course, 'checkout', '-q', '.')
    rc,log = script(course, 'push-board', BRANCH='main', TABLE=str(tmp_path/'table.csv'), TOKEN='t0ken')
    assert rc==0, log
    assert row.record_id in git(tmp_path/'course.git', 'show', 'main:leaderboard.csv')
    assert 't0ken' not in ''.join(o.read_text(errors='replace') for o in (course/'.git').rglob('*') if o.is_file())
    rc,log = script(course, 'push-board', BRANCH='main', TABLE=str(tmp_path/'table.csv'), TOKEN='t0ken')
    assert (rc, log)==(0, 'The board is in step\n')

@pytest.mark.slow
def test_an_anonymous_board_refuses_authors(course, row):
    said = pull(course, claimed(row, 'a method', 'a-login'))
    assert [rc for rc,_ in said]==[0, 1] and 'names authors' in said[1][1], said

@pytest.mark.slow
def test_a_row_of_another_program_needs_an_audit_until_it_is_there(course, row):
    other = doctored(row, lambda r: r['code'].update(source_sha256='0'*16))
    (rc,log),*_ = pull(course, other)
    assert rc==3 and f'the program that checks it has {source_here()}' in log.replace('`', ''), log
    commit(course, put(other))
    assert script(course, 'rebuild-board')[0]==0, 'a later version of the program leaves it as it is'

@pytest.mark.slow
def test_a_row_that_does_not_hold_stops_the_board(course, row):
    commit(course, {k:v.replace(b'"diverged": false', b'"diverged": true') for k,v in put(row).items()})
    assert script(course, 'rebuild-board')[0] in (1, 2)

def steps_of(flow): return [s for j in flow['jobs'].values() for s in j['steps']]
def rights(flow): return {k:j.get('permissions') for k,j in flow['jobs'].items()}
def actions(flow): return {s['uses'] for s in steps_of(flow) if 'uses' in s}

@pytest.mark.parametrize('anonymous', (False, True))
def test_the_workflows_of_a_new_board_are_as_careful_as_our_own(tmp_path, anonymous):
    made = new_board(tmp_path/'course', anonymous)
    for name in ('check','board'):
        new,own = (yaml.safe_load((o/'.github'/'workflows'/f'{name}.yml').read_text()) for o in (made, root))
        assert new.get('on', new.get(True))==own.get('on', own.get(True)) and new['permissions']==own['permissions']
        assert rights(new)==rights(own) and actions(new)==actions(own)
        steps = steps_of(new)
        assert not [s for s in steps if '${{' in s.get('run', '')]
        called = {s['run'] for s in steps if s.get('run', '').startswith('.github')}
        for o in called:
            assert (made/o).stat().st_mode & stat.S_IXUSR
            subprocess.run(['bash', '-n', made/o], check=True)
    flow = yaml.safe_load((made/'.github'/'workflows'/'board.yml').read_text())
    assert 'token' not in str(flow['jobs']['rebuild'])
    same = (made/'.github'/'scripts'/'check-pull-request.sh').read_text()
    assert same==(root/'.github'/'scripts'/'check-pull-request.sh').read_text()
    assert (made/'.github/scripts/check-anonymous.sh').exists()==anonymous

def test_a_new_board_installs_the_program_that_made_it(tmp_path):
    made = new_board(tmp_path/'course')
    pip = (made/'.github'/'requirements.txt').read_text()
    assert re.fullmatch(r'woofbench @ git\+https://github\.com/[\w.-]+/[\w.-]+(@[0-9a-f]{40})?\n', pip), pip
    text = (made/'README.md').read_text()
    assert text.startswith('# course\n') and 'NAME' not in text.replace('OWNER/NAME', '') and 'URL' not in text

def test_a_folder_with_something_in_it_stays(tmp_path):
    (tmp_path/'x').write_text('mine')
    with pytest.raises(BadInput, match='not empty'): new_board(tmp_path)
    assert [o.name for o in tmp_path.iterdir()]==['x']

def test_everything_that_is_written_is_in_the_package():
    "As pip installs it: no folders, no names that begin with a dot, nothing that counts as code of the package"
    have = {o.name for o in (files('woofbench')/'starter').iterdir()}
    assert have and not [o for o in have if o.startswith('.') or o.endswith('.py')]
    assert "'starter/*'" in (root/'setup.py').read_text()
