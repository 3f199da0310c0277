"Pages of boards that are unlike the project's own: damaged numbers, other images, own code, lists of names, no records"
import json, re, shutil
from dataclasses import replace
from datetime import date
import numpy as np
import pytest
from conftest import root
from woofbench.board.record.git import arrivals, git, origin_of, remotes, repo_of
from woofbench.board.record.record import read_records, write_record
from woofbench.board.record.strict import plain
from woofbench.board.reported.history import of_board
from woofbench.board.row import Row
from woofbench.board.rules import faults
from woofbench.commands.run import run
from woofbench.registry import BadInput
from woofbench.web import cells, front, money, rows
from woofbench.web.build import build
from woofbench.web.facts import Names, from_rows, parse_names, read_board


def changed(rec, f):
    d = json.loads(json.dumps(plain(rec)))
    f(d)
    return Row(d)

@pytest.fixture(scope='module')
def practice():
    "The practice rows of this project"
    return [o for o in read_records(root)[0] if o.track['size']==64]

@pytest.fixture(scope='module')
def newest():
    "Official rows, in the newest schema"
    return [o for o in read_records(root)[0] if o.schema==3]

def of(*made, **kw): return from_rows(list(made), **kw)


# Numbers of a record

@pytest.mark.parametrize('k', ['threads','seeds_at_once'])
def test_a_record_without_threads_or_seeds_is_invalid_and_stops_no_board(newest, k):
    def f(d): d['env'] |= {k:0}
    row = changed(newest[-1], f)
    assert 'no thread or no seed was at work' in [*faults(row, [], date(2026, 12, 31))]
    board = read_board(root)
    e = of(row).entries[0]
    b = money.bill(e, board.prices)
    assert b is None or b.row>0
    assert build(of(row, prices=board.prices))

def test_a_row_without_times_has_no_bill(practice):
    def f(d):
        for r in d['runs']:
            for o in r['curve']: o |= dict(train_s=0, eval_s=0)
    assert money.bill(of(changed(practice[0], f)).entries[0], read_board(root).prices) is None


# Rows beside other rows

def test_rows_with_other_images_are_not_compared(newest):
    a,b = Row(newest[0]),changed(newest[1], lambda d: d['data'].update(manifest_sha256='0'*64, known=False))
    def beside(*made):
        board = of(*made)
        return rows.compared(board.by_id[a.id], {})
    number = r'[+-]\d+\.\d\d to [+-]\d+\.\d\d'
    assert re.search(number, beside(a, Row(newest[1]))) and not a.same_images(b)
    assert b.id in beside(a, b) and not re.search(number, beside(a, b))

def test_a_replication_leads_to_the_row_that_it_runs_again(newest):
    again = changed(newest[0], lambda d: d.update(based_on=newest[1].record_id))
    e = of(again, Row(newest[1])).by_id[again.id]
    text = rows.rerun(e, of(again))
    assert newest[1].record_id in text and 'reproduce' not in text
    assert not any(o.endswith('.ipynb') for o in rows.row_files(e, of(again), {}))

def test_commands_have_the_flags_that_a_row_needs(practice):
    own = changed(practice[0], lambda d: d['track'].update(dataset='my_dogs', source='full'))
    e = of(own).entries[0]
    assert cells.more_command(e, 3).endswith('--data FOLDER --k 3')
    assert 'challenge '+e.id+' --data FOLDER' in rows.again(e, of(own))

def test_an_interval_that_is_not_known_is_a_dash():
    assert cells.points_interval(float('nan'), float('nan'))=='–' and cells.points_interval(-.01, .02)=='-1.00 to +2.00'


# Lists of names

@pytest.mark.parametrize('change', [dict(classes=['a']), dict(classes=dict(a=['cat'])), dict(classes=dict(a=1)),
                                    dict(images=dict(a='x/y')), dict(images=dict(b='x')), dict(classes={})], ids=str)
def test_a_list_of_names_that_is_none_is_one_line(change):
    good = dict(dataset='pets', suffix='.jpg', classes=dict(a='cat'), images=dict(a='x y'))
    assert parse_names(json.dumps(good))[1].val==('val/a/x.jpg','val/a/y.jpg')
    with pytest.raises(BadInput): parse_names(json.dumps(good | change))

def test_confusions_of_one_class_and_of_a_class_without_images():
    names = Names(('val/a/x.jpg',), (0,), dict(a='cat', b='dog'))
    e = type('E', (), dict(diffs=np.zeros((2,1), int)))()
    text = rows.confused(e, names)
    assert 'nan' not in text and '100.0' in text and '–' in text
    assert '100.0' in rows.confused(e, replace(names, classes=dict(a='cat')))


# Boards

def test_a_folder_without_a_board_makes_no_site(refused, tmp_path):
    assert 'there is no board' in refused(f'site --board {tmp_path} --out {tmp_path/"out"}')
    assert not (tmp_path/'out').exists()

def test_pictures_are_asked_for_before_the_pages_are_made(refused, tmp_path):
    for more in ('--images nowhere', '--serve --images nowhere'):
        refused(f'site --board {root} --out {tmp_path/"out"} {more}')
    assert not (tmp_path/'out').exists()

def test_reported_rows_alone_have_years(tmp_path):
    "A board without a record has no day of its own"
    (tmp_path/'records').mkdir()
    shutil.copy(root/'records/reported.json', tmp_path/'records')
    made = build(from_rows([], reported=of_board(tmp_path)))
    text = made['index.html'].decode()
    assert '2019 to 1970' not in text and '2019 to 20' in text

def test_a_row_without_an_interval_has_no_plus_minus(tmp_path):
    row = run('digits', size=16, epochs=1, seeds=1, arch='xresnet10_tiny', bs=512, out=tmp_path, say=None)
    board = of(row)
    assert '± –' not in build(board)['index.html'].decode()
    assert '<b>1</b> row<' in str(front._hero(board))


# Where a board is

def test_a_board_of_your_own_has_no_links_to_this_project(newest, tmp_path):
    "Its pull requests, notebooks and badges are those of its own clone, or it has none of them"
    rec = newest[-1]
    write_record(tmp_path, rec)
    def pages():
        b = read_board(tmp_path)
        row,front = (build(b)[k].decode() for k in (f'rows/{rec.record_id}.html', 'index.html'))
        return b,row,front
    b,row,front = pages()
    assert (b.repo, b.url)==('','') and b.package==repo_of().url
    assert 'github.io' not in row and 'colab' not in row and 'badges/' in row and 'howpublished' not in row
    assert '--repo REPOSITORY' in front and f'git+{b.package}' in front
    assert f'rows/{rec.record_id}.ipynb' not in build(b)
    git(tmp_path, 'init', '-q')
    git(tmp_path, 'config', 'remote.origin.url', 'https://github.com/dogs/kennel.git')
    b,row,front = pages()
    assert 'https://dogs.github.io/kennel/badges/' in row and 'github.com/github/dogs/kennel' not in row
    assert 'colab.research.google.com/github/dogs/kennel/blob/notebooks/' in row and b.package not in row.replace(
            f'git+{b.package}', '')
    assert '--repo https://github.com/dogs/kennel' in front

def test_the_board_of_this_project_has_its_own_address():
    b = read_board(root)
    assert b.repo==(origin_of(root) or repo_of()).url

def test_the_first_line_of_a_commit_says_nothing_about_other_commits(tmp_path):
    "Also in a board below the root of its repository, with names that git would quote"
    (tmp_path/'board'/'records').mkdir(parents=True)
    me = '-c', 'user.name=ada', '-c', 'user.email=ada@localhost'
    def ask(*args): return git(tmp_path, *me, *args).decode().strip()
    ask('init', '-q')
    want = []
    for name,line in (('a.json', 'One (#7)'), ('ü b.json', f'\1{"0"*40} records/c.json'), ('a.json', 'Again')):
        path = tmp_path/'board'/'records'/name
        if path.exists():
            path.unlink()
            ask('commit', '-qam', 'Gone')
        path.write_text(line)
        ask('add', '.')
        ask('commit', '-qm', line)
        want.append((f'records/{name}', ask('rev-parse', 'HEAD'), line))
    assert arrivals(tmp_path/'board')==want

def test_a_clone_knows_where_it_fetches_from(tmp_path):
    assert remotes(tmp_path)=={} and origin_of(tmp_path) is None
    git(tmp_path, 'init', '-q')
    git(tmp_path, 'remote', 'add', 'origin', 'git@github.com:dogs/kennel.git')
    git(tmp_path, 'remote', 'add', 'up', 'https://github.com/woof/kennel')
    git(tmp_path, 'remote', 'set-url', '--push', 'up', 'https://github.com/me/kennel')
    assert remotes(tmp_path)==dict(origin='git@github.com:dogs/kennel.git', up='https://github.com/woof/kennel')
    assert origin_of(tmp_path).url=='https://github.com/dogs/kennel'
