"Folders of your own images: names, splits, what is refused, both engines, and readers that do not know the dataset"
import os, re, shutil
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from conftest import root, tiny_dataset
from woofbench.board.record.record import as_record, check_record, read_records, record_id
from woofbench.board.record.strict import plain
from woofbench.board.row import Row
from woofbench.board.rules import judge
from woofbench.board.weights import job_of
from woofbench.commands.reproduce import reproduce
from woofbench.commands.prepare import plan
from woofbench.commands.run import run
from woofbench.data.manifest import find, verify
from woofbench.data.own_images import as_dataset, both_splits, folder_name, own_images
from woofbench.data.track import Dataset, Track, datasets, make_track, packaged
from woofbench.registry import BadInput
from woofbench.train.recipe import config_id, from_dict, recipes
from warm import call, python

SMALL = '--size 32 --epochs 1 --seeds 1 --arch xresnet10_tiny --bs 8'
small = dict(size=32, epochs=1, arch='xresnet10_tiny', bs=8, say=None)


@pytest.fixture(autouse=True)
def forget():
    yield
    for o in [o for o in datasets if not packaged(o)]: del datasets[o]

def images(folder, n=10, classes=('rose','lily'), side=(40, 32)):
    "Class folders without a split"
    for k,name in enumerate(classes):
        (folder/name).mkdir(parents=True)
        for i in range(n):
            x = np.random.default_rng([k, i]).integers(0, 60, (side[1], side[0], 3), dtype='uint8')+(0, 190)[k%2]
            Image.fromarray(x.astype('uint8')).save(folder/name/f'{i}.png')
    return folder

@pytest.fixture
def flowers(tmp_path): return images(tmp_path/'Flowers')

@pytest.fixture(scope='module')
def row(tmp_path_factory):
    "A row of five seeds"
    from woofbench.board.record.provenance import code_facts
    home = tmp_path_factory.mktemp('home')
    with pytest.MonkeyPatch.context() as m: # as in a clean checkout
        m.setattr('woofbench.commands.publish.code_facts', lambda: code_facts() | dict(dirty=False))
        return run(images(home/'Flowers'), out=home/'board', **small)


# Names

@pytest.mark.parametrize('folder,name', [('flowers','flowers'), ('Flower Photos_2','flower-photos-2'), ('_x_','x'),
                                         ('imagewoof-blurred','imagewoof-blurred'), ('été','t')])
def test_the_folder_names_the_dataset(folder, name): assert folder_name(Path('/somewhere')/folder)==name

@pytest.mark.parametrize('folder,hint', [
    ('imagewoof','--dataset imagewoof --data PATH'), ('Imagenette2','--dataset imagenette'),
    ('imagewoof2-320','--dataset imagewoof'), ('digits-32','--dataset digits'), ('花','rename it'), ('--','rename it'),
    ('a'*41,'at most 40'), ('con','Windows')])
def test_names_that_are_refused(folder, hint, tmp_path, refused):
    images(tmp_path/folder)
    for where in (str(tmp_path/folder), f'{tmp_path/folder}/'):
        assert hint in refused(['run', '--dataset', where, *SMALL.split(), '--out', str(tmp_path/'board')])
    assert not (tmp_path/'board/records').exists()

def test_paths_and_names_are_told_apart(flowers, monkeypatch):
    assert as_dataset('imagewoof')=='imagewoof' and as_dataset(flowers)==as_dataset(str(flowers))=='flowers'
    monkeypatch.chdir(flowers.parent)
    monkeypatch.setenv('HOME', str(flowers.parent))
    for o in ('Flowers','./Flowers','~/Flowers',Path('Flowers')): assert as_dataset(o)=='flowers'
    with pytest.raises(BadInput, match='did you mean imagewoof'): as_dataset('imagewof')
    for o in ('./nothing','~/nothing'):
        with pytest.raises(BadInput, match='nothing is not a folder of images'): as_dataset(o)
    for o in (None, 3, ''):
        with pytest.raises(BadInput): as_dataset(o)

def test_a_name_that_is_taken_is_not_replaced(flowers):
    datasets.register('flowers')(Dataset('flowers', 'registered by hand'))
    with pytest.raises(BadInput, match='flowers is taken'): as_dataset(flowers)
    with pytest.raises(BadInput, match='imagewoof is taken'): own_images(flowers, 'imagewoof')
    with pytest.raises(BadInput, match='small letters'): own_images(flowers, 'Flowers')

def test_a_registered_name_has_its_usual_settings(flowers):
    own_images(flowers, 'my-flowers', size=64, epochs=3, recipe='digits')
    p = plan('my-flowers')
    assert p.track.cell=='my-flowers/64-s32-e3' and p.recipe==recipes('digits')()
    datasets.register('roses')(Dataset('roses', 'registered by hand', root=str(flowers), size=96))
    assert plan('roses', arch='xresnet10_tiny').track.cell=='roses/96-s32-e5'
    own_images(flowers, size=64)
    assert as_dataset(flowers)=='flowers' and datasets['flowers'].size==64, 'the path keeps what was said of it'


# Splits

def test_a_split_follows_from_the_relative_paths_alone(flowers, tmp_path):
    train,val = both_splits(flowers)
    assert val==['lily/2.png','lily/9.png','rose/1.png','rose/7.png'], 'stored: it must never change'
    assert len(train)==16 and not {*train} & {*val} and train==sorted(train)
    other = tmp_path/'elsewhere'/'copy'
    for o in reversed(sorted(flowers.rglob('*.png'))):
        path = other/o.relative_to(flowers)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (50, 50)).save(path)
    assert both_splits(other)==(train, val)

def test_a_split_by_hand_is_the_same_images(flowers, tmp_path):
    for name,paths in zip(('train','val'), both_splits(flowers)):
        for o in paths:
            (tmp_path/'other'/name/o).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(flowers/o, tmp_path/'other'/name/o)
    a,b = (verify(o, as_dataset(o)) for o in (flowers, tmp_path/'other'))
    assert a.sha256==b.sha256 and a.classes==b.classes and (a.depth, b.depth)==(0, 1)
    assert list(map(a.label, a.val))==list(map(b.label, b.val))==['lily','lily','rose','rose']

def test_deeper_folders_and_hidden_files(flowers):
    (flowers/'rose/garden').mkdir()
    shutil.move(flowers/'rose/1.png', flowers/'rose/garden/1.png')
    (flowers/'.cache').mkdir()
    (flowers/'README.txt').write_text('about')
    m = verify(flowers, as_dataset(flowers))
    assert m.classes==('lily','rose') and {*map(m.label, [*m.train, *m.val])}=={'lily','rose'}


# What is refused before training, and what is not

def _one_class(o): shutil.rmtree(o/'rose')
def _empty_class(o): (o/'tulip').mkdir()
def _one_image(o): images(o, 1, ['tulip'])
def _no_val(o): images(o/'train')
def _twin(o): [shutil.copy(o/'rose/0.png', o/f'lily/{i}.png') for i in range(10)]
def _classless(o): shutil.copy(o/'rose/0.png', o/'0.png')
def _broken(o): (o/'rose/0.png').write_bytes(b'no image')
def _many(o):
    for i in range(257):
        (o/f'c{i}').mkdir()
        for j in range(2): shutil.copy(o/'rose/0.png', o/f'c{i}/{j}.png')

@pytest.mark.parametrize('spoil,hint', [
    (_one_class,'has one class, lily'), (_empty_class,'no images in'), (_one_image,'tulip has one image'),
    (_no_val,'folder train and no val'), (_twin,'validation images are in the training set'),
    (_classless,'0.png is in no class'), (_broken,'0.png cannot be read'), (_many,'259 classes')])
def test_what_cannot_be_trained_is_refused_before_training(spoil, hint, flowers, tmp_path, refused):
    spoil(flowers)
    assert hint in refused(f'run --dataset {flowers} {SMALL} --out {tmp_path/"board"}')
    assert not (tmp_path/'board/records').exists()

@pytest.mark.parametrize('spoil,hint', [(_one_class,'has one class'), (_empty_class,'no images in'),
                                        (_twin,'are in the training set')])
def test_the_same_holds_with_train_and_val(spoil, hint, tmp_path, refused):
    home = tmp_path/'split'
    for o in ('train','val'): images(home/o)
    for i,o in enumerate(sorted((home/'val').rglob('*.png'))): Image.new('RGB', (40, 32), (i, i, 9)).save(o)
    assert len(verify(home, as_dataset(home)).val)==20
    if spoil is _twin: shutil.copy(home/'train/rose/0.png', home/'val/rose/0.png')
    else: [spoil(home/o) for o in ('train','val')]
    assert hint in refused(f'run --dataset {home} {SMALL} --out {tmp_path/"board"}')

def test_two_hundred_fifty_six_classes_and_a_rare_twin_are_accepted(tmp_path):
    for i in range(256): images(tmp_path/'many', 2, [f'c{i}'], (8, 8))
    for i,o in enumerate(sorted((tmp_path/'many').rglob('*.png'))): Image.new('RGB', (8, 8), (i%256, i//256, 3)).save(o)
    m = verify(tmp_path/'many', as_dataset(tmp_path/'many'))
    assert len(m.classes)==256 and m.twins==0
    shutil.copy(m.root/m.train[0], m.root/m.val[5])
    assert verify(m.root, 'many').twins==1, 'one of 256 is counted in the record'

def test_a_folder_gives_way_to_another_of_its_name(flowers, tmp_path):
    other = images(tmp_path/'b'/'Flowers', 6)
    assert [len(verify(find(make_track(as_dataset(o))), 'flowers').train) for o in (flowers, other)]==[16, 10]


# Training and the record

@pytest.mark.parametrize('engine', ('fastai','fast'))
@pytest.mark.parametrize('split', (False, True))
def test_both_engines_train_on_a_folder(engine, split, tmp_path):
    home = tiny_dataset(tmp_path/'Flowers') if split else images(tmp_path/'Flowers')
    row = run(home, out=tmp_path/'board', engine=engine, seeds=1, workers=0, **small)
    n = (24, 12) if split else (16, 4)
    assert (row.data['n_train'], row.data['n_val'])==n and row.vectors.shape==(1, n[1])
    assert row.acc[0]==np.mean(row.vectors==0) and row.track.dataset=='flowers'

def test_a_row_is_practice_and_names_no_path(row):
    assert row.status=='practice' and row.n==5 and row.track.cell=='flowers/32-s32-e1'
    assert row.data['edition']=='flowers (16 training and 4 validation images)' and not row.data['known']
    text = row.path.read_text()
    for o in ('Flowers', 'imagewoof', *row.path.parents[3].parent.parts[2:]): assert o not in text

def test_the_shell_trains_and_ablates(flowers, tmp_path, cli):
    rc,out,err = cli(f'run --dataset {flowers} {SMALL} --out {tmp_path}')
    assert rc==0 and 'images of your own; the row will be for practice' in out and 'left out' not in out, (out, err)
    two = SMALL.replace('--seeds 1', '--seeds 2')
    rc,out,err = cli(f'ablate --one-at-a-time act=relu --dataset {flowers} {two} --out {tmp_path}')
    assert rc==0, err
    assert {o.track.dataset for o in read_records(tmp_path)[0]}=={'flowers'} and len(read_records(tmp_path)[0])==3


@pytest.mark.parametrize('split', (False, True))
def test_files_that_are_left_out_are_named(tmp_path, split):
    for i,part in enumerate(('train','val') if split else ('',)):
        images(tmp_path/'birds'/part, classes=('a','b'), side=(40+i, 32)) # no image is in both
    home = tmp_path/'birds'/('val' if split else '')
    for o in ('a/raw.dng', 'a/.hidden', 'b/no_suffix', 'list.txt'): (home/o).write_bytes(b'x')
    said = []
    run(tmp_path/'birds', out=tmp_path/'board', seeds=1, workers=0, **small | dict(say=said.append))
    assert 'note: 2 files of this folder left out, not known as images: a/raw.dng, ...' in said


# Readers that do not know the dataset

READ = '''
import sys
from pathlib import Path
from woofbench.commands.cli import main
from woofbench.board.table import load_rows
from woofbench.data.track import datasets
from woofbench.web.build import make_site
board,site = sys.argv[1:]
assert main(['check', board]) in (0, 3)
assert main(['board', '--check', '--out', board])==0
(row,),bad = load_rows(board)
assert not bad and row.track.dataset=='flowers' and 'flowers' not in datasets and not row.track.official
make_site(site, board)
main(['compare', row.id, row.id, '--out', board])
print(row.status)
'''

def test_a_process_without_the_dataset_reads_checks_and_shows_the_row(row, tmp_path):
    board = row.path.parents[3]
    p = python(READ, board, tmp_path/'site', cwd=root)
    assert p.returncode==0, p.stderr+p.stdout
    assert p.stdout.splitlines()[-1]=='practice' and 'invalid' not in p.stdout
    page = (tmp_path/f'site/rows/{row.id}.html').read_text()
    assert 'Flowers' in page and '--dataset ./flowers' in page and 'partial copy' not in page
    assert 'Flowers' in (tmp_path/'site/index.html').read_text()
    assert f'woofbench reproduce {row.id} --data FOLDER' in page and 'author not named' in page
    assert not (tmp_path/f'site/rows/{row.id}.ipynb').exists() # a notebook on the web has none of these images

def test_a_status_is_the_same_where_the_dataset_is_registered(row):
    here = Row(row.record).status,judge(row.record, [])
    datasets.register('flowers')(Dataset('flowers', 'mine', sources={'320':'X'}, easy=True, recipe='digits'))
    assert (Row(row.record).status, judge(row.record, []))==here
    assert not Track('flowers', 128, 5, '320').official

def forged(rec, **kw):
    o = plain(rec)
    for k,v in kw.items(): o[k] = o[k]|v
    o['config_id'] = config_id(Track(**o['track']), from_dict(o['recipe']))
    return o | dict(record_id=record_id(as_record(o)))

def test_rows_of_other_images_are_not_ranked_together(row):
    from woofbench.commands.compare import Comparison
    from woofbench.web.facts import from_rows
    other = Row(as_record(forged(row.record, data=dict(manifest_sha256='1'*64))))
    cell, = from_rows([Row(row.record), other]).cells
    assert len(cell.entries)==2 and len(cell.ranked)==1 and cell.entries[1].rank is None
    v = Comparison(Row(row.record), other)
    assert v.outcome=='unknown' and 'validated on different images' in v.sentence()

def test_nobody_knows_images_of_an_unknown_dataset(row):
    verdict = judge(check_record(forged(row.record, data=dict(known=True))), [])
    assert verdict.word=='invalid' and 'not a dataset of this package' in str(verdict)

@pytest.mark.parametrize('name', ('../x','Flowers','a b','','x/y','-x','con','x'*41))
def test_a_record_cannot_name_a_folder_outside_the_board(row, name):
    with pytest.raises(BadInput, match='cannot be called|may be shown'):
        check_record(forged(row.record, track=dict(dataset=name)))

def test_a_row_is_run_again_from_the_folder(row, tmp_path):
    home = row.path.parents[3].parent
    with pytest.raises(BadInput, match='say where, with --data'): reproduce(row.id, out=home/'board')
    with pytest.raises(BadInput, match='say where, with --data'): job_of(row)
    got = reproduce(row.id, k=1, data=home/'Flowers', out=home/'board', trust_code=True, say=None)
    assert got is not None and 'flowers' in datasets


# One place for the facts

def test_only_the_table_of_datasets_knows_their_names():
    "A default of a parameter, a name of a recipe and an example for the shell aside"
    allowed = re.compile(
            r'dataset:str=.digits|_preset..digits|dataset:str = |woofbench run --dataset|datasets."digits"|'
            r'such as dataset = "digits"')
    pattern,found = re.compile(r'''['"](imagewoof|imagenette|imagewang|digits)\b'''),[]
    for o in (root/'woofbench').rglob('*.py'):
        if o.name in ('track.py','_modidx.py'): continue
        lines = [line for line in o.read_text().splitlines() if pattern.search(line) and not allowed.search(line)]
        found += [f'{o.name}: {line}' for line in lines]
    assert found==[]


# The example

def test_the_example_trains(tmp_path):
    p = call([root/'examples/own_images.py'], cwd=tmp_path,
             env=os.environ | dict(PYTHONPATH=str(root), TMPDIR=str(tmp_path)))
    assert p.returncode==0 and 'colours, 32 px from 40, 1 epoch' in p.stdout, p.stderr
    assert not any(tmp_path.iterdir()), 'it leaves nothing behind'


# The web board

def test_a_page_shows_the_classes_in_words(row, tmp_path):
    "The names of the folders; with a list of names, what is shown there, on trust"
    import json
    from woofbench.web.build import make_site
    board = shutil.copytree(row.path.parents[3], tmp_path/'board')
    def page():
        out = make_site(tmp_path/'pages', board)
        return next(o for o in out.rglob(f'*{row.id}*.html')).read_text()
    text = page()
    assert 'The classes are lily, rose.' in text and 'flowers (16 training and 4 validation images)' in text
    (board/'editions').mkdir()
    names = dict(dataset='flowers', suffix='.png', classes=dict(lily='White lily', rose='Red <b>rose</b>'),
                 images=dict(lily='2 9', rose='1 7'))
    (board/'editions/flowers.json').write_text(json.dumps(names))
    text = page()
    assert 'White lily' in text and '<b>rose' not in text and 'could not be checked' in text
    (board/'editions/imagewoof.json').write_text(json.dumps(names | dict(dataset='imagewoof')))
    from woofbench.web.facts import read_names
    known,bad = read_names(board)
    assert 'flowers' in known and [o for o in bad if o.startswith('imagewoof.json: the list of names is not that of')]
