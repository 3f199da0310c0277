"What all tests share: a cache of their own, a shell-like call of the program, tiny images"
import os, shlex, shutil, tempfile
from pathlib import Path
import numpy as np
import pytest
from PIL import Image

# Before anything is imported: fastai and woofbench read these, and the user's own caches are left alone
_home = tempfile.mkdtemp(prefix='woofbench-tests-')
os.environ |= dict(WOOFBENCH_CACHE=f'{_home}/cache', FASTAI_HOME=f'{_home}/fastai',
                   OMP_NUM_THREADS=os.environ.get('OMP_NUM_THREADS', '1'))
real_data = os.environ.pop('WOOFBENCH_DATA', None)
root = Path(__file__).parent.parent


def pytest_unconfigure():
    import gc
    gc.unfreeze() # see `imports_are_no_garbage`
    shutil.rmtree(_home, ignore_errors=True)


# The files that take longest, first: else the last worker trains while the others are done
LONGEST = ('test_sweep','test_engine','test_resume','test_processes','test_fused','test_web','test_everyday','test_run',
           'test_specs','test_foreign','test_check')

def pytest_collection_modifyitems(items):
    rank = {k:i for i,k in enumerate(LONGEST)}
    items.sort(key=lambda o: rank.get(o.path.stem, len(rank)))

_frozen = [] # registries that the garbage collector does not see any more

@pytest.fixture(scope='module', autouse=True)
def imports_are_no_garbage():
    "What is imported stays: every `gc.collect`, two for each row that is trained, leaves it alone"
    import gc
    gc.collect()
    _frozen[:] = _registries()
    gc.freeze()

def _registries():
    from woofbench.board.record import own_parts
    from woofbench.registry import Registry
    import gc
    assert own_parts # the module that looks at all registries has imported them
    return _frozen + [o for o in gc.get_objects() if type(o) is Registry]

def _parts_of(reg): return [reg, *(v for v in vars(reg).values() if isinstance(v, (dict,set)))]

def _put_back(o, was):
    "Give a dict or a set what it had, also where it is a registry that refuses this"
    clear,update = (set.clear, set.update) if isinstance(o, set) else (dict.clear, dict.update)
    clear(o)
    update(o, was)

def mostly_nightly(cases, *quick):
    "Cases of a test: those at the places `quick` in every run, the others in the nightly run"
    assert all(0<=i<len(cases) for i in quick)
    return [pytest.param(o, marks=() if i in quick else pytest.mark.slow) for i,o in enumerate(cases)]

@pytest.fixture
def registries_stay():
    "Take back what a test registers"
    from woofbench.train import imports
    saved = [(o, o.copy()) for reg in _registries() for o in _parts_of(reg)] + [(imports._done, imports._done.copy())]
    yield
    for o in saved: _put_back(*o)


@pytest.fixture
def cli(capsys):
    "Call the program in this process: `cli('run ...')` gives its exit code, output and errors"
    from woofbench.commands.cli import main
    def _f(line):
        try: rc = main(shlex.split(line) if isinstance(line, str) else line)
        except SystemExit as e: rc = e.code
        return rc, *capsys.readouterr()
    return _f


@pytest.fixture
def refused(cli):
    "Call the program, which has to answer with exit code 2 and one line, and give that line"
    def _f(line):
        rc,_,err = cli(line)
        assert rc==2 and err.startswith('woofbench: ') and len(err.splitlines())==1 and 'Traceback' not in err, (rc,
                err)
        return err
    return _f


def picture(path, side=(40,32), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.as_posix().encode()[-24:]])
    Image.fromarray(rng.integers(0, 255, (9,11,3), dtype='uint8')).resize(side).save(path)


def tiny_dataset(path, classes='abc', n_train=8, n_val=4):
    "Folders like imagewoof's, with noise in them"
    for split,n in (('train',n_train), ('val',n_val)):
        for c in classes:
            for i in range(n): picture(path/split/c/f'{c}_{split}_{i}.JPEG')
    return path


@pytest.fixture
def tiny(tmp_path): return tiny_dataset(tmp_path/'tiny')


@pytest.fixture(scope='module', autouse=True)
def files_of_this_module():
    """Files of parts and folders of images that a module of tests brings are unknown to the next one: a record names
    all that are known"""
    from woofbench.data.track import datasets
    from woofbench.train import imports
    kept = [(o, o.copy()) for o in (imports._done, imports._raw, *_parts_of(datasets))]
    yield
    for o in kept: _put_back(*o)
