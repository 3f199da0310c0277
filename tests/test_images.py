"Which files count as images, which are refused, and what the scan and the labels make of damage"
import json, os, random, socket, sys
from dataclasses import replace
import numpy as np
import pytest
from PIL import Image
from conftest import picture, root, tiny_dataset
from woofbench.data import manifest as data_module
from woofbench.data.manifest import CheckedImage, find, make_digits, verify
from woofbench.files import cache_dir
from woofbench.data.loaders import Batching, make_loaders, noisy_labels
from woofbench.data.images import list_images, to_rgb
from woofbench.data.jpeg import jpeg_fault
from woofbench.registry import BadInput
from woofbench.data.track import Track, datasets, make_track

sys.path.insert(0, str(root))
from benchmarks import data_faults  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch): monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))

def noise(*shape, dtype='uint8', most=256): return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


# Which files

def test_files_are_fastais(tiny):
    from fastai.data.transforms import get_image_files
    rgb = Image.fromarray(noise(9, 11, 3))
    for o in ('train/a/x.webp', 'train/a/deep/er/x.bmp', 'val/b/x.GIF', 'train/c/x.tiff', 'train/c/.x.png',
              'train/.hidden/x.png', 'val/a/x.JPG'):
        (tiny/o).parent.mkdir(parents=True, exist_ok=True)
        rgb.save(tiny/o)
    (tiny/'val/a/x.JPG').rename(tiny/'val/a/jpg') # fastai looks behind the last dot, or at the whole name
    (tiny/'train/a/notes.txt').write_text('no image')
    for split in ('train','val'):
        assert list_images(tiny, split)==sorted(o.relative_to(tiny).as_posix() for o in get_image_files(tiny/split)
                                                if '.hidden' not in str(o))
    m = verify(tiny, 'imagewoof')
    assert len(m.train)==24+3 and m.label('train/a/deep/er/x.bmp')=='a' and m.classes==('a','b','c')
    assert [tuple(CheckedImage(m)(str(m.root/o)).size) for o in m.train if 'x.' in o]==[(11,9)]*3

def test_files_that_would_be_lost_are_named(tiny):
    Image.fromarray(noise(9, 11, 3)).save(tiny/'train/x.png')
    with pytest.raises(BadInput, match='x.png is in no class'): verify(tiny, 'imagewoof')
    (tiny/'train/x.png').unlink()
    (tiny/'train/a/x.tga').write_bytes(b'TGA')
    with pytest.raises(BadInput, match='x.tga would be left out'): verify(tiny, 'imagewoof')

@pytest.mark.skipif(os.name!='posix', reason='special files')
def test_special_files_are_named(tiny):
    p = tiny/'train/a/x.png'
    os.mkfifo(p)
    with pytest.raises(BadInput, match='x.png .* a FIFO'): verify(tiny, 'imagewoof')
    p.unlink()
    p.symlink_to('/dev/zero')
    with pytest.raises(BadInput, match='x.png .* a device'): verify(tiny, 'imagewoof')
    p.unlink()
    p.symlink_to('nowhere')
    with pytest.raises(BadInput, match='x.png'): verify(tiny, 'imagewoof')
    p.unlink()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.relpath(p))
        with pytest.raises(BadInput, match='x.png .* a socket'): verify(tiny, 'imagewoof')
    p.unlink()
    (tiny/'train/a/loop').symlink_to(tiny/'train/a')
    with pytest.raises(BadInput, match='loop is a link'): verify(tiny, 'imagewoof')


# What they seem

@pytest.mark.parametrize('name,x',
                         [('x.png', noise(9, 9, dtype='uint16', most=65536)), ('x.tiff', noise(9, 9, dtype='float32')),
                          ('y.tiff', noise(9, 9, dtype='int32', most=70000))])
def test_what_fastai_would_clip_is_refused(tiny, name, x):
    Image.fromarray(x).save(tiny/'train/a'/name)
    with pytest.raises(BadInput, match=f'{name} has pixels of kind'): verify(tiny, 'imagewoof')
    with pytest.raises(BadInput, match=f'{name} has pixels of kind'): to_rgb((tiny/'train/a'/name).read_bytes(), name)

@pytest.mark.parametrize('side', [(1,1), (7,40), (40,3)])
def test_small_jpegs_are_read(tiny, side):
    Image.fromarray(noise(side[1], side[0], 3)).save(tiny/'train/a/small.jpg')
    assert 'train/a/small.jpg' in verify(tiny, 'imagewoof').train

def test_a_damaged_jpeg_is_refused(tiny):
    p = tiny/'train/a/x.jpg'
    picture(p, (320,240))
    raw = p.read_bytes()
    assert jpeg_fault(raw) is None and verify(tiny, 'imagewoof')
    p.write_bytes(raw[:len(raw)//2] + raw[len(raw)//2+40:])
    with pytest.raises(BadInput, match='x.jpg'): verify(tiny, 'imagewoof')

def test_a_damaged_png_is_refused(tiny):
    p = tiny/'train/a/x.png'
    picture(p)
    raw = bytearray(p.read_bytes())
    raw[-18] ^= 1 # in the checksum of the data
    p.write_bytes(raw)
    with pytest.raises(BadInput, match='x.png'): verify(tiny, 'imagewoof')

def test_messages_have_no_addresses_and_no_escape_codes(tiny, monkeypatch):
    (tiny/'train/a/x\x1b[31m\u202e.jpg').write_text('<html>')
    with pytest.raises(BadInput) as e: verify(tiny, 'imagewoof')
    assert r'x\x1b[31m\u202e.jpg cannot be read' in str(e.value) and str(e.value).isprintable()
    assert str(BadInput('no <_io.BytesIO object at 0x7f12>'))=='no <_io.BytesIO object>'
    (tiny/'afile').write_text('')
    with pytest.raises(BadInput, match='not a folder, but a file'): find(make_track('imagewoof'), tiny/'afile')


# The scan and its cache

def scans(): return sorted(cache_dir().glob('scan-*.json'))

def test_a_damaged_scan_is_absent(tiny):
    m = verify(tiny, 'imagewoof')
    path, = scans()
    raw = path.read_bytes()
    for bad in (b'', b'[]', b'null', b'[[[', b'['*99999, raw[:-9], raw.replace(b'[', b'{', 1),
                json.dumps([[1,2,3]]*36).encode(), raw[:70]+bytes([raw[70]^1])+raw[71:], raw[:-30]+b'0'+raw[-29:]):
        path.write_bytes(bad)
        assert verify(tiny, 'imagewoof')==m and path.read_bytes()==raw

def test_a_file_of_the_same_size_and_date_is_read_again(tiny):
    m = verify(tiny, 'imagewoof')
    p = tiny/m.train[0]
    s,raw = p.stat(),bytearray(p.read_bytes())
    raw[15] ^= 1 # the density in the header
    p.write_bytes(raw)
    os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns))
    assert (p.stat().st_size, p.stat().st_mtime_ns)==(s.st_size, s.st_mtime_ns) and verify(tiny,
            'imagewoof').sha256!=m.sha256

@pytest.mark.parametrize('workers', [0, 1])
def test_fastais_loaders_refuse_an_exchanged_image(tiny, workers):
    m = verify(tiny, 'imagewoof')
    dls = make_loaders(m, Track('imagewoof', 32), Batching(bs=8), workers=workers, device='cpu')
    assert sum(len(y) for _,y in dls.valid)==12
    (tiny/m.val[0]).write_bytes((tiny/m.val[1]).read_bytes())
    with pytest.raises(BadInput) as e: list(dls.valid)
    assert str(e.value)==f'{tiny/m.val[0]} has changed since it was verified: run the same command again'

@pytest.fixture
def woof():
    "The entry of imagewoof, which is put back"
    was = datasets['imagewoof']
    yield was
    dict.__setitem__(datasets, 'imagewoof', was)

def test_known_needs_the_images_that_a_maintainer_has_seen(tiny, woof):
    m = verify(tiny, 'imagewoof')
    names = [data_module.lines_sha(o) for o in ([*m.train, *m.val], m.val)]
    for sha,known in ((m.sha256, True), ('0'*64, False), (None, True)):
        dict.__setitem__(datasets, 'imagewoof',
                         replace(woof, names=names[0], val_names=names[1], images={m.source:sha} if sha else {}))
        now = verify(tiny, 'imagewoof')
        assert now.known==known and ('with other images' in now.edition)==(not known)

def test_damaged_digits_are_made_again():
    root = make_digits()
    m = verify(root, 'digits')
    p = root/m.train[5]
    p.write_bytes(p.read_bytes()[:50])
    (root/m.train[6]).write_bytes(b'') # as a crash of the computer leaves it
    assert verify(make_digits(), 'digits')==m

def test_digits_do_not_wait_for_the_disk(tmp_path, monkeypatch):
    "A wait for each of 1,797 files takes seconds on a slow disk; the hash of all of them finds what is damaged"
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path))
    waits = []
    monkeypatch.setattr(os, 'fsync', waits.append)
    make_digits()
    assert len(waits)==1 # for the last file, which says that all others are there


# Labels

def labels(root, rows, col='noisy_labels_25'):
    (root/'noisy_imagewoof.csv').write_text('\n'.join([f'path,{col}', *(','.join(o) for o in rows)]))
    return lambda: noisy_labels(verify(root, 'imagewoof'), 'imagewoof', 25)

def test_label_files_that_contradict_are_refused(tiny):
    m = verify(tiny, 'imagewoof')
    rows = [[o, 'b' if i%4==0 else m.label(o)] for i,o in enumerate(m.train)]
    assert labels(tiny, rows)()==[o[1] for o in rows]
    with pytest.raises(BadInput, match='twice, in lines 2 and 26'): labels(tiny, [*rows, rows[0]])()
    with pytest.raises(BadInput, match='has no .*which is a training image'): labels(tiny, rows[1:])()
    with pytest.raises(BadInput, match="'dog' in line 4"): labels(tiny, [*rows[:2], [rows[2][0], 'dog'], *rows[3:]])()
    with pytest.raises(BadInput, match='no label in line 3'): labels(tiny, [rows[0], rows[1][:1], *rows[2:]])()
    with pytest.raises(BadInput, match='changes 16 of 24 labels, the first of them in line 2'):
        labels(tiny, [[o, 'c'] for o in m.train])()
    with pytest.raises(BadInput, match='changes 0 of 24'): labels(tiny, [[o, m.label(o)] for o in m.train])()
    with pytest.raises(BadInput, match='no column noisy_labels_25'): labels(tiny, rows, 'noisy')()


def test_too_many_classes_are_refused_before_training(tmp_path):
    for split in ('train','val'):
        for i in range(257): picture(tmp_path/'many'/split/f'c{i:03}'/f'{split}.png', (8,8), i)
    with pytest.raises(BadInput, match='257 classes'): verify(tmp_path/'many', 'imagewoof')


# The computer

def test_a_wrong_clock_is_told(monkeypatch):
    from datetime import datetime
    from woofbench.board import rules
    assert rules.clock_fault()=='' and '2999' in rules.clock_fault('2999-01-01T00:00:00Z')
    monkeypatch.setattr(rules, 'datetime',
                        type('Then', (datetime,), dict(now=classmethod(lambda cls,
                                tz=None: datetime(2020, 1, 1, tzinfo=tz)))))
    assert 'the clock says 2020-01-01' in rules.clock_fault()

def test_shared_memory_is_not_memory():
    from woofbench.train.learner import _shared_memory_line
    assert 'shared memory' in _shared_memory_line(
            RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader\'s '
                         'workers are out of shared memory'))
    assert _shared_memory_line(RuntimeError('CUDA out of memory')) is None


# All of it, at random

@pytest.mark.skipif(os.name!='posix', reason='limits of a process')
@pytest.mark.parametrize('which', ['store','scan','image','disk'])
def test_damage_is_never_silently_wrong(tmp_path, monkeypatch, which):
    "More of it is tried by benchmarks/data_faults.py"
    monkeypatch.setattr(data_faults.subprocess, 'run', lambda *args, **kw: pytest.fail('a test mounts nothing'))
    monkeypatch.setattr(os, 'geteuid', lambda: 1)
    random.seed(0)
    bench = data_faults.Bench(tmp_path, np.random.default_rng(0))
    res = dict(data_faults.trials(bench, [which], 5))
    assert res and not {k:o for k,o in res.items() if o[2]}
    assert all(sum(o)==5 and o[0]>1 for o in res.values())

def test_a_folder_without_its_images_says_which(tmp_path):
    "The edition's own folder is there, but its archives were not unpacked"
    edition = tmp_path/'imagewoof2-192'
    edition.mkdir()
    (edition/'part-0.tar').touch()
    with pytest.raises(BadInput) as e: find(Track('imagewoof', 64, 5, '192'), tmp_path)
    assert str(e.value)==f'{edition} has no train and val folders; it holds part-0.tar'
    with pytest.raises(BadInput, match='and no imagewoof2-192; it holds other'):
        (tmp_path/'a'/'other').mkdir(parents=True)
        find(Track('imagewoof', 64, 5, '192'), tmp_path/'a')

def test_an_image_of_another_folder_may_have_the_same_name(tiny, tmp_path, monkeypatch):
    m = verify(tiny, 'imagewoof')
    other = tmp_path/'holiday'/m.train[0]
    picture(other, seed=7)
    monkeypatch.chdir(tmp_path/'holiday')
    for o in (other, m.train[0], f'./{m.train[0]}'): assert np.array_equal(CheckedImage(m)(o), Image.open(other))
    picture(tiny/m.train[0], seed=7)
    with pytest.raises(BadInput, match='has changed since'): CheckedImage(m)(tiny/m.train[0])

def test_another_version_of_the_check_of_jpegs_reads_the_files_again(tiny, monkeypatch):
    verify(tiny, 'imagewoof')
    read = []
    monkeypatch.setattr(data_module, 'check_jpeg', lambda raw, path: read.append(path))
    verify(tiny, 'imagewoof')
    assert not read
    monkeypatch.setattr(data_module, 'JPEG_CHECK', 2)
    verify(tiny, 'imagewoof')
    assert len(read)==36

def test_a_folder_with_the_classes_of_another_dataset_is_refused(tmp_path, monkeypatch):
    "A folder of one dataset in `$WOOFBENCH_DATA` does not serve for all"
    from woofbench.commands.doctor import doctor_facts
    for name in ('imagenette','imagewoof'):
        tiny_dataset(tmp_path/f'{name}2-320', datasets[name].classes[:2], n_train=2, n_val=1)
    monkeypatch.setenv('WOOFBENCH_DATA', str(tmp_path/'imagenette2-320'))
    for name in ('imagewoof','imagewang'):
        with pytest.raises(BadInput, match=f'is not {name}: it has the classes of imagenette'): find(make_track(name))
    found = {o['what']:o['state'] for o in doctor_facts(tmp_path)}
    assert found['imagenette']==str(tmp_path/'imagenette2-320')
    assert all(found[o].endswith('one that holds the folders of all datasets') for o in ('imagewoof','imagewang'))
    pets = tiny_dataset(tmp_path/'pets', n_train=2, n_val=1)
    monkeypatch.setenv('WOOFBENCH_DATA', str(pets))
    for name in ('imagewoof','imagenette'):
        with pytest.raises(BadInput, match=f'is not {name}: it has none of its classes'): find(make_track(name))
        assert find(make_track(name), pets)==pets, 'you have said it'
    monkeypatch.setenv('WOOFBENCH_DATA', str(tmp_path))
    for name in ('imagewoof','imagenette'):
        m = verify(find(make_track(name)), name)
        assert m.root==tmp_path/f'{name}2-320' and m.edition.startswith(f'partial copy of {name}2')
    mixed = tiny_dataset(tmp_path/'all', [o for n in ('imagenette','imagewoof') for o in datasets[n].classes[:2]], 2, 1)
    assert find(make_track('imagewang'), mixed)==mixed

def test_classes_are_those_of_the_lists_of_images():
    for o in (root/'woofbench/web/editions').glob('*.json'):
        o = json.loads(o.read_text())
        assert sorted(o['classes'])==list(datasets[o['dataset']].classes)
    assert all(len(o.classes)==o.n_classes for o in datasets.values() if o.n_classes)
