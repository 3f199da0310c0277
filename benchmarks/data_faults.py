"""What happens when data are damaged? Random damage to stores, scans, images and disks, and what came of it

    python -m benchmarks.data_faults                        # all kinds, one or two minutes on one core
    python -m benchmarks.data_faults store scan --tries 100  # some of them, more often

store   decoded pixels in the cache: bytes changed, or the file cut short, before a start and while it is in use;
        also with         so large a store that a start compares only a sample
scan    the cached scan: random bytes, cut short, wrong types, empty, an older version; and the mark
        that JPEGs are whole
image   an image exchanged for another one of the same size and date, before verification or after it
jpeg    1, 10, 100 or 1000 random bytes in the middle of a JPEG file, before verification
disk    the cache on a full disk: a limit on the size of files, and a small tmpfs (for root)

A trial is *noticed* when it ended with a sentence, or with the right images and a repaired cache; *harmless* when
nothing was said and every pixel and the manifest are right; *silently wrong* when nothing was said and they are not. An
error that is not a `BadInput` ends the benchmark. Nothing may be silently wrong but in `jpeg`: a few changed bytes can
make another valid JPEG, and only a known hash tells then. """
import argparse, csv, hashlib, io, json, os, random, shutil, subprocess, sys, tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch
import numpy as np
from PIL import Image

RESULT = Path(__file__).parent/'results/data-faults.csv'
TOLD,RIGHT,WRONG = 'noticed','harmless','silently wrong'


# Images

def photo(rng, side=(208,160), quality=85):
    "A JPEG file of smooth noise, about 10 KB"
    x = rng.integers(0, 256, (side[1]//8, side[0]//8, 3), dtype='uint8')
    fine = rng.normal(0, 8, (side[1], side[0], 3))
    im = np.asarray(Image.fromarray(x).resize(side, Image.BICUBIC))+fine
    buf = io.BytesIO()
    Image.fromarray(im.clip(0, 255).astype('uint8')).save(buf, 'jpeg', quality=quality)
    return buf.getvalue()

def other(rng, n):
    "Another JPEG of `n` bytes: smaller, then filled with a comment"
    raw = photo(rng, quality=60)
    fill = n-len(raw)-4
    assert fill>=0
    return raw[:2] + b'\xff\xfe'+(fill+2).to_bytes(2, 'big')+b' '*fill + raw[2:]

def make_images(root, rng):
    for split,n in (('train',3), ('val',2)):
        for label in ('a','b'):
            (root/split/label).mkdir(parents=True)
            for i in range(n): (root/split/label/f'{i}.jpg').write_bytes(photo(rng))

def pixels(path): return np.asarray(Image.open(path).convert('RGB'))

class Bench:
    "A folder of images, its cache, and what is right"
    def __init__(self, folder, rng):
        from woofbench.data.manifest import verify
        self.root,self.cache,self.rng = folder/'images',folder/'cache',rng
        make_images(self.root, rng)
        os.environ['WOOFBENCH_CACHE'] = str(self.cache)
        self.m = verify(self.root, 'imagewoof')
        self.files = [*self.m.train, *self.m.val]
        self.raw = {o:(self.root/o).read_bytes() for o in self.files}
        self.right = {o:pixels(self.root/o) for o in self.files}

    def store(self, m=None):
        from woofbench.data.store import load_store
        return load_store(m or self.m, 'train')

    def kept(self):
        path, = self.cache.glob('store-*.rgb')
        return path

    def clean(self):
        "Files as they were, and an empty cache"
        for o in self.files:
            if (self.root/o).read_bytes()!=self.raw[o]: (self.root/o).write_bytes(self.raw[o])
        shutil.rmtree(self.cache, ignore_errors=True)

def same(bench, store, right=None):
    "Read all images in one of the ways that there are; are they right?"
    right = right or bench.right
    want,way = [right[o] for o in bench.m.train],random.choice(['one','bytes','all'])
    if way=='one': return all(np.array_equal(store[i].numpy(), x) for i,x in enumerate(want))
    if way=='bytes': return all(bytes(store.image(i))==x.tobytes() for i,x in enumerate(want))
    return store.pixels.numpy().tobytes()==b''.join(x.tobytes() for x in want)

def judge(f):
    "What came of `f`, which returns (right?, repaired?)"
    from woofbench.registry import BadInput
    try: right,repaired = f()
    except BadInput: return TOLD
    return WRONG if not right else TOLD if repaired else RIGHT


# Damage

def flip(path):
    "Change 1 to 100 bytes that follow one another, in place"
    n = path.stat().st_size
    with open(path, 'r+b') as f:
        f.seek(random.randrange(n))
        old = f.read(random.choice([1, 1, 10, 100]))
        f.seek(-len(old), os.SEEK_CUR)
        f.write(bytes(o ^ random.randrange(1, 256) for o in old))

def cut(path): os.truncate(path, random.randrange(path.stat().st_size))

def store_kinds(bench):
    from woofbench.data.store import PixelFile
    def before(damage, sampled):
        bench.store()
        path = bench.kept()
        damage(path)
        bad = path.read_bytes()
        with patch.object(PixelFile.sample, '__defaults__', (1 if sampled else 64<<20,)):
            return judge(lambda: (same(bench, bench.store()), bench.kept().read_bytes()!=bad))
    def during(damage):
        store,n = bench.store(),random.randrange(3)
        for i in range(n): store[i]
        damage(bench.kept())
        return judge(lambda: (same(bench, store), False))
    for name,damage in (('bytes changed', flip), ('cut short', cut)):
        yield f'store: {name} before a start', lambda d=damage: before(d, False)
        yield f'store: {name} before a start that samples', lambda d=damage: before(d, True)
        yield f'store: {name} during use', lambda d=damage: during(d)

def wrong_types(key, res):
    "A scan whose checksum is right, and whose contents are not those of a scan"
    from woofbench.data.manifest import lines_sha
    one = random.randrange(len(res))
    def but(x): return [x if i==one else o for i,o in enumerate(res)]
    h,w,v = res[one]
    bad = random.choice([{}, None, 7, 'scan', [], res[:-1], res+res[:1], but(None), but([]), but([h, w]),
                         but([h, w, v, 0]), but([w, h, v]), but([h, str(w), v]), but([h, w, float(v)]),
                         but([h, True, v]), but([h, -w, v]), but([h, w, 0]), but([h[:-1], w, v]), but([h+'0', w, v]),
                         but([[h], w, v]), but({'h': h}), but([None]*3), but([h, w, float('nan')])])
    body = random.choice([json.dumps(bad), '['*100_000, '', '[1,', json.dumps(bad)]).encode()
    return lines_sha([key, hashlib.sha256(body).hexdigest()]).encode()+b'\n'+body

def older(res):
    "Scans as earlier versions wrote them, here with other digests"
    bad = [[h[::-1], w, v] for h,w,v in res]
    return json.dumps(random.choice([bad, dict(version=1, files=bad), [o[0] for o in bad]])).encode()

def scan_kinds(bench):
    from woofbench.data import manifest as data
    def scan(damage, name='scan-*.json'):
        keys,true = [],data._kept_scan
        with patch.object(data, '_kept_scan', lambda path, key, n: keys.append(key) or true(path, key, n)):
            data.verify(bench.root, 'imagewoof')
        path, = bench.cache.glob(name)
        whole = path.read_bytes()
        damage(path, keys[0])
        bad = path.read_bytes()
        assert bad!=whole
        return judge(lambda: (data.verify(bench.root, 'imagewoof')==bench.m, path.read_bytes()==whole))
    def write(make):
        return lambda path, key: path.write_bytes(make(key, json.loads(path.read_bytes().partition(b'\n')[2])))
    yield 'scan: bytes changed', lambda: scan(lambda path, key: flip(path))
    yield 'scan: random bytes', lambda: scan(write(lambda key, res: os.urandom(random.randrange(1, 2000))))
    yield 'scan: cut short', lambda: scan(lambda path, key: cut(path))
    yield 'scan: empty', lambda: scan(write(lambda key, res: b''))
    yield 'scan: wrong types, right checksum', lambda: scan(write(wrong_types))
    yield 'scan: an older version', lambda: scan(write(lambda key, res: older(res)))
    yield 'mark of whole JPEGs: bytes changed', lambda: scan(lambda path, key: flip(path), 'whole-*')
    yield 'mark of whole JPEGs: cut short', lambda: scan(lambda path, key: cut(path), 'whole-*')


# Images that are exchanged

def exchange(bench, name):
    "Another image of the same size and date in place of one: in place, or moved there"
    path,s = bench.root/name,(bench.root/name).stat()
    raw = other(bench.rng, s.st_size)
    new = path if random.random()<.5 else bench.root.with_name('new.jpg')
    new.write_bytes(raw)
    os.replace(new, path)
    os.utime(path, ns=(s.st_atime_ns, s.st_mtime_ns))
    assert (t := path.stat()).st_size==s.st_size and t.st_mtime_ns==s.st_mtime_ns

def image_kinds(bench):
    from woofbench.data import store as store_module
    from woofbench.data.manifest import CheckedImage, file_digest, verify
    def before():
        verify(bench.root, 'imagewoof')
        exchange(bench, name := random.choice(bench.files))
        def f():
            m = verify(bench.root, 'imagewoof')
            digests = tuple(file_digest((bench.root/o).read_bytes()) for o in bench.files)
            found = same(bench, bench.store(m), bench.right | {name: pixels(bench.root/name)})
            return m.digests==digests and m.sha256!=bench.m.sha256 and found, True
        return judge(f)
    def after(read):
        exchange(bench, name := random.choice(bench.m.train))
        return judge(lambda: (read(name), False))
    def loaders(name): return np.array_equal(np.asarray(CheckedImage(bench.m)(bench.root/name)), bench.right[name])
    def memory(name): return same(bench, store_module.load_store(bench.m, 'train', cache=False))
    def sizes_read():
        true = store_module._sizes
        def f(paths, workers):
            res = true(paths, workers)
            exchange(bench, random.choice(bench.m.train))
            return res
        with patch.object(store_module, '_sizes', f): return judge(lambda: (same(bench, bench.store()), False))
    yield 'image exchanged, then verified again', before
    yield 'image exchanged after verification, store on disk', lambda: after(lambda name: same(bench, bench.store()))
    yield 'image exchanged after verification, store in memory', lambda: after(memory)
    yield "image exchanged after verification, fastai's loaders", lambda: after(loaders)
    yield 'image exchanged after its size was read', sizes_read


def jpeg_kinds(bench):
    from woofbench.data.manifest import verify
    def damaged(n):
        name = random.choice(bench.files)
        raw = bench.raw[name]
        at = random.randrange(len(raw)//4, 3*len(raw)//4-n)
        bad = raw[:at]+os.urandom(n)+raw[at+n:]
        (bench.root/name).write_bytes(bad)
        def f():
            verify(bench.root, 'imagewoof')
            return np.array_equal(pixels(bench.root/name), bench.right[name]), bad==raw
        return judge(f)
    for n in (1, 10, 100, 1000): yield f'JPEG: {n} byte{"s"*(n>1)} in the middle', lambda n=n: damaged(n)


# Full disks

@contextmanager
def file_limit(n):
    "No file can get longer than `n` bytes"
    import resource # POSIX only
    soft,hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

@contextmanager
def small_disk(folder, n):
    "A file system of `n` bytes in `folder`"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(['mount','-t','tmpfs','-o',f'size={n//4096*4+4}k','none',str(folder)], check=True)
    try: yield
    finally: subprocess.run(['umount',str(folder)], check=True)

def disk_kinds(bench):
    from woofbench.data.manifest import verify
    # or it would not begin to write
    plenty = patch('shutil.disk_usage', lambda path: shutil._ntuple_diskusage(1<<50, 0, 1<<50))
    bench.clean()
    size = bench.store().nbytes+4096
    def work():
        m = verify(bench.root, 'imagewoof')
        right = m==bench.m and same(bench, bench.store(m))
        return right and not [*bench.cache.glob('.*.tmp')], not [*bench.cache.glob('store-*.rgb')]
    def full(limit):
        with limit, plenty: first = judge(work)
        then = judge(work)
        return WRONG if WRONG in (first, then) else first
    def n(): return random.randrange(1, size*5//4)
    yield 'full disk: files cannot grow', lambda: full(file_limit(n()))
    if os.geteuid()==0: yield 'full disk: a small tmpfs', lambda: full(small_disk(bench.cache, n()))


def trials(bench, which, tries):
    "(kind, how often each came of it)"
    for k in which:
        for name,f in ALL[k](bench):
            res = []
            for _ in range(tries):
                bench.clean()
                res.append(f())
            yield name, [res.count(o) for o in (TOLD, RIGHT, WRONG)]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('which', nargs='*', default=list(ALL), help=f'which of {", ".join(ALL)} [all]')
    p.add_argument('--tries', type=int, default=100, help='trials of each kind [100]')
    p.add_argument('--seed', type=int, default=0, help='of the images and of the damage [0]')
    p.add_argument('--out', type=Path, default=RESULT, help='CSV file [%(default)s]')
    args = p.parse_args()
    if bad := set(args.which)-set(ALL): p.error(f'{", ".join(bad)}: take some of {", ".join(ALL)}')
    random.seed(args.seed)
    folder,rows = Path(tempfile.mkdtemp(prefix='data-faults-')),[]
    print(f'| fault | tried | {TOLD} | {RIGHT} | {WRONG} |\n| --- | --- | --- | --- | --- |')
    try:
        for name,counts in trials(Bench(folder, np.random.default_rng(args.seed)), args.which, args.tries):
            rows.append([name, args.tries, *counts])
            print('| '+' | '.join(map(str, rows[-1]))+' |', flush=True)
    finally: shutil.rmtree(folder, ignore_errors=True)
    with open(args.out, 'w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows([['fault', 'tried', TOLD, RIGHT, WRONG], *rows])
    return int(any(o[-1] for o in rows if not o[0].startswith('JPEG')))

ALL = dict(store=store_kinds, scan=scan_kinds, image=image_kinds, jpeg=jpeg_kinds, disk=disk_kinds)

if __name__=='__main__': sys.exit(main())
