"Answers that were wrong without a word: ablations, plans of sweeps, dry runs, pictures, words of the commands"
import os, re
from pathlib import Path
import pytest
from woofbench.commands import ablate as ablations, publish, sweep as sweeps
from woofbench.board.record.record import Purpose
from woofbench.commands.ablate import ablate, load
from woofbench.commands.estimate import estimate
from woofbench.commands.prepare import plan
from woofbench.commands.publish import row_kind
from woofbench.commands.reproduce import reproduce
from woofbench.commands.compare import compare
from woofbench.commands.run import run
from woofbench.commands.sweep import sweep
from woofbench.commands.sweep_plan import read_plan
from woofbench.data.own_images import own_images
from woofbench.data.store import load_store
from woofbench.registry import BadInput
from woofbench.train.machine import Machine

small = dict(dataset='digits', size=16, epochs=1, arch='xresnet10_tiny', bs=128, seeds=2, device='cpu', say=None)
SMALL = '--dataset digits --size 16 --epochs 1 --arch xresnet10_tiny --bs 128 --seeds 2 --device cpu'


# Ablations

def test_an_ablation_takes_a_base_that_differs_in_nothing_that_changes_a_result(tmp_path, monkeypatch):
    "Loader processes, seeds at once, and code of the package that trains nothing"
    facts = publish.code_facts
    base = run(engine='fastai', workers=0, out=tmp_path, **small)
    monkeypatch.setattr(publish, 'code_facts', lambda: facts() | dict(source_sha256='f'*16))
    res = ablate(['act=relu'], engine='fastai', workers=1, out=tmp_path, **small)
    assert res.base.id==base.id and res.rows[0][1].record['env']['workers']==1
    assert 'loader processes, code of woofbench that trains nothing' in res.conclusion()
    assert load(tmp_path, res.base, [res.rows[0][1]]).conclusion()==res.conclusion()
    monkeypatch.setattr(ablations, '_one_context', lambda a, b: False)
    with pytest.raises(BadInput, match='cannot be compared with the base'): load(tmp_path, base, [res.rows[0][1]])


# Plans of sweeps

def plan_of(path, dataset, more=''):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{more}\n[[tracks]]\ndataset = "{dataset}"\n')
    return path

def test_a_bare_name_in_a_plan_is_a_folder_beside_it(tmp_path, monkeypatch, registries_stay):
    "And not one of this name where you are"
    monkeypatch.chdir(tmp_path)
    path = plan_of(tmp_path/'plan/p.toml', 'obst')
    (tmp_path/'obst').mkdir()
    with pytest.raises(BadInput, match="'obst' is not a dataset, and not a folder beside the plan"): read_plan(path)
    (tmp_path/'plan/obst').mkdir()
    (tmp_path/'plan/digits').mkdir()
    own_images('obst') # is known in this process alone
    assert read_plan(path).tracks[0]['dataset']==str(tmp_path/'plan/obst')
    assert read_plan(plan_of(path, 'digits')).tracks[0]['dataset']=='digits'
    os.chdir('plan')
    assert read_plan(dict(tracks=[dict(dataset='obst')])).tracks[0]['dataset']==str(tmp_path/'plan/obst')

def test_a_plan_is_the_same_from_every_folder(tmp_path, monkeypatch):
    (tmp_path/'plan/obst').mkdir(parents=True)
    (tmp_path/'plan/mine.py').write_text('')
    path = plan_of(tmp_path/'plan/q.toml', './obst', 'import = ["mine.py"]')
    (tmp_path/'link').symlink_to('plan')
    plans = []
    for folder,name in (('', 'plan/q.toml'), ('', str(path)), ('', 'link/q.toml'), ('plan', 'q.toml'),
                        ('plan', '../link/../plan/q.toml')):
        monkeypatch.chdir(tmp_path/folder)
        plans.append(read_plan(name))
    assert {o.key for o in plans}=={plans[0].key}
    assert all(o.args(0)['imports']==[str(tmp_path/'plan/mine.py')] for o in plans)
    monkeypatch.chdir(tmp_path/'plan')
    for o in ('mine.py', Path('mine.py'), ['mine.py'], (Path('../plan/mine.py'),)):
        assert read_plan(path, o).imports[1:]==(str(tmp_path/'plan/mine.py'),)

TRACK = dict(tracks=[dict(dataset='digits')])

@pytest.mark.parametrize('given,said', [
    (dict(budget=40), 'a budget is'), (dict(budget=0), 'a budget is'), (dict(budget='3x', dry_run=True), 'a budget is'),
    (dict(budget='3x', status=True), 'a budget is'), (dict(adaptive='no'), 'adaptive must be True or False'),
    (dict(dry_run='no'), 'dry_run must be True or False'), (dict(status=1), 'status must be True or False'),
    (dict(out=3), 'out must be a folder'), (dict(price=3), 'give --dry-run too'),
    (dict(price=-3, dry_run=True), 'price must be a number'), (dict(status=True, dry_run=True), 'not both'),
    (dict(budget='1m', dry_run=True), 'leave --budget out'),
    (dict(adaptive=True, dry_run=True), 'leave --adaptive out'),
    (dict(import_='gone.py'), 'cannot read'), (dict(import_=3), 'import must be a list of texts')])
def test_a_sweep_refuses_wrong_arguments(given, said):
    with pytest.raises(BadInput, match=said): sweep(TRACK, say=None, **given)

def test_a_board_below_your_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match='no sweep of this plan'): sweep(TRACK, status=True, out=None)
    monkeypatch.setattr(sweeps, '_swept', lambda plan, folder, *args: folder)
    assert sweep(TRACK, out='~/brett').parents[2]==tmp_path/'brett'
    calls = (lambda: compare('a', 'b', '~/brett'), lambda: load('~/brett', 'a', ['b']),
             lambda: reproduce('a', out='~/brett', say=None))
    for o in calls:
        with pytest.raises(BadInput, match=f'below {tmp_path}/brett'): o()

def test_a_sweep_reads_the_project_file_from_a_folder_below(tmp_path, monkeypatch, refused):
    (tmp_path/'records').mkdir()
    (tmp_path/'leaderboard.csv').write_text('')
    (tmp_path/'woofbench.toml').write_text('import = "mine.py"')
    (tmp_path/'sub').mkdir()
    monkeypatch.chdir(tmp_path/'sub')
    seen = []
    def reading(plan, imports):
        seen.extend(imports)
        raise BadInput('read')
    monkeypatch.setattr(sweeps, 'read_plan', reading)
    assert refused('sweep p.toml') and [Path(o).resolve() for o in seen]==[tmp_path/'mine.py']


# Dry runs

def test_a_dry_run_refuses_a_batch_that_is_larger_than_the_images(tmp_path, refused):
    from conftest import tiny_dataset
    words = f'--dataset {tiny_dataset(tmp_path/"obst")} --size 32 --epochs 1 --arch xresnet10_tiny --bs 64 --device cpu'
    for o in ('', '--dry-run'):
        assert 'bs 64 is larger than the 24 training images' in refused(f'run {words} {o} --out {tmp_path/"b"}')

def test_the_time_of_a_dry_run_is_the_product_that_it_shows(monkeypatch, cli):
    from woofbench.commands import estimate as estimates
    monkeypatch.setattr(estimates, '_measured', lambda *args: (2., 'guessed'))
    out = cli(f'run {SMALL} --seeds-at-once 2 --dry-run')[1]
    assert 'about 2 s: 1 x 1 epoch of 2.0 s with 2 seeds at once, guessed' in out
    assert 'about 4 s: 2 x 1 epoch of 2.0 s, guessed' in cli(f'run {SMALL} --dry-run')[1]

def test_a_dry_run_knows_what_is_there(tmp_path, cli, monkeypatch):
    "The row, or some of its seeds; and the time of a row that was trained in the same way alone"
    from conftest import tiny_dataset
    for name,f in dict(_measured=lambda *args: (2., 'guessed'), act_memory=lambda *args: 0).items():
        monkeypatch.setattr(f'woofbench.commands.estimate.{name}', f)
    track = dict(dataset=str(tiny_dataset(tmp_path/'obst')), size=32, epochs=1, arch='xresnet10_tiny', bs=8)
    row = run(out=tmp_path/'a', seeds=2, device='cpu', say=None, **track)
    words = ' '.join(f'--{k} {v}' for k,v in track.items())
    def said(board, more=''):
        out = cli(f'run {words} --seeds 2 --device cpu --dry-run --out {tmp_path/board} {more}')[1]
        return re.search('^time: +(.+)$', out, re.M)[1]
    assert said('a')==f'none, this row is there already: {row.id[:8]}; add --again to train it again'
    again = said('a', '--again')
    assert '2 x 1 epoch of' in again and f'as row {row.id[:8]} took' in again
    assert '1 x 1 epoch of 2.0 s with 2 seeds at once, guessed' in said('a', '--again --seeds-at-once 8')
    folder = row_kind(plan(**track), Machine('cpu', 0), Purpose())[0].seeds_in(tmp_path/'b')
    for i,text in enumerate(('1 of 2 seeds there already, the rest takes about', 'none, all seeds are there')):
        folder.save(i, row.runs[i], 0)
        assert said('b').startswith(text)

@pytest.mark.parametrize('flags,keep,says', [
    ('--out {}/a.txt/b', '', 'cannot write to'), ('--plot {}/x.xyz', '', 'no format .xyz'),
    ('', 'abc', 'WOOFBENCH_KEEP_EVERY must be seconds')])
def test_a_dry_run_tries_what_a_run_would_write(flags, keep, says, refused, tmp_path, monkeypatch):
    (tmp_path/'a.txt').touch()
    monkeypatch.setenv('WOOFBENCH_KEEP_EVERY', keep)
    assert says in refused(f'run {SMALL} --dry-run --out {tmp_path} {flags.format(tmp_path)}')
    assert [o.name for o in tmp_path.iterdir()]==['a.txt']

def test_a_dry_run_counts_the_pixels_of_the_files(tmp_path, monkeypatch):
    from conftest import picture, tiny_dataset
    monkeypatch.setattr('woofbench.commands.estimate._measured', lambda *args: (2., 'guessed'))
    root = tiny_dataset(tmp_path/'obst')
    for i in range(24): picture(root/f'train/a/large-{i}.png', (300+i, 200))
    f = estimate(dict(dataset=str(root), size=32, epochs=1, bs=8, arch='xresnet10_tiny', device='cpu', out=tmp_path))
    stores = [load_store(f.job.manifest, o, cache=False) for o in ('train','val')]
    assert f.parts[2]==sum(o.nbytes for o in stores) + 3*32*32*len(stores[1])


# Pictures, names and words

def test_a_picture_has_an_ending_and_its_folder_may_come_with_the_run(tmp_path, cli, monkeypatch):
    from woofbench.commands.verbs import _plot_path
    monkeypatch.chdir(tmp_path)
    assert _plot_path('noext', {}, '')==Path('noext.png') and _plot_path('a.svg', {}, '')==Path('a.svg')
    (tmp_path/'there').mkdir()
    with pytest.raises(BadInput, match='it is a folder'): _plot_path('there', {}, '')
    rc,out,err = cli(f'ablate {SMALL} --one-at-a-time act=relu --plot --workers 4 --out new')
    assert rc==0 and (tmp_path/'new/ablation.png').is_file(), err
    assert 'note: engine fast has no loader processes, so workers is 0' in out
    rc,out,err = cli(f'ablate {SMALL} --one-at-a-time act=relu --plot noext --out new')
    assert rc==0 and 'plot:   noext.png' in out and (tmp_path/'noext.png').is_file(), err
    for text in (out, cli(f'run {SMALL} --out new')[1]):
        assert 'this row is there already; woofbench run --again trains it again' in text

def test_a_trick_is_not_called_none(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert 'it means no part' in refused('new trick none') and not (tmp_path/'none.py').exists()

def test_a_quick_reproduction_has_one_seed(refused):
    assert 'leave --k out' in refused('reproduce 1234 --quick --k 1')

def test_the_hint_of_a_flag_that_is_given_by_its_place(refused):
    said = refused('ablate --recipe digits --one-at-a-time act=relu')
    assert "give BASE right after 'woofbench ablate', without a flag" in said

def test_the_help_of_workers_names_the_engine(cli):
    for o in ('run','ablate'): assert 'engine fast has' in ' '.join(cli(f'{o} --help')[1].split())
