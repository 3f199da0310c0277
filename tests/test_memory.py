"""`kept_memory`: freed memory stays while a network is trained on the processor, and no number changes"""
import ctypes
from threading import Event, Thread
import pytest, torch
from woofbench.fast import memory
from woofbench.fast.memory import kept_memory

cpu = torch.device('cpu')
glibc = pytest.mark.skipif(memory._libc() is None, reason='needs glibc')

class Fake:
    "Remembers what it was told"
    def __init__(self): self.told = []
    def mallopt(self, key, value): self.told.append((key, value))
    def malloc_trim(self, pad): self.told.append('trim')

@pytest.fixture
def libc(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(memory, '_libc', lambda: fake)
    return fake

def faults():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

@glibc
def test_a_freed_tensor_is_used_again():
    "48 MiB are 12,288 pages of 4 KiB: without the setting every operation maps them anew"
    x = torch.randn(12<<20)
    def pages():
        was = faults()
        for _ in range(16): torch.relu(x)
        return faults()-was
    with kept_memory(cpu):
        pages() # the heap grows until a freed block has room for the tensor and its alignment
        kept = pages()
    assert kept<pages()/4

@glibc
def test_the_settings_are_taken_by_the_library():
    c = ctypes.CDLL(None)
    assert all(c.mallopt(k, v)==1 for values in (memory._KEPT, memory._USUAL) for k,v in values.items())

def test_it_ends_with_the_last_one(libc):
    with kept_memory(cpu):
        with kept_memory(cpu): pass
        assert 'trim' not in libc.told and libc.told[-1] in memory._KEPT.items()
    assert libc.told[-4:]==[*memory._USUAL.items(), 'trim']

def test_it_ends_where_training_breaks_off(libc):
    with pytest.raises(ValueError), kept_memory(cpu): raise ValueError
    assert libc.told[-1]=='trim' and not memory._inside

def test_threads_share_it(libc):
    inside,leave = Event(),Event()
    def other():
        with kept_memory(cpu):
            inside.set()
            leave.wait(60)
    t = Thread(target=other)
    with kept_memory(cpu):
        t.start()
        assert inside.wait(60)
    assert 'trim' not in libc.told
    leave.set()
    t.join()
    assert libc.told[-1]=='trim'

def test_nothing_happens_on_a_gpu_or_without_the_library(libc, monkeypatch):
    for device in (torch.device('cuda'),'cuda:1'):
        with kept_memory(device): assert not libc.told
    with kept_memory('cpu'): assert libc.told
    libc.told.clear()
    monkeypatch.setattr(memory, '_libc', lambda: None)
    with kept_memory(cpu): assert not libc.told

def test_every_fit_has_it_and_counts_stay(libc, tmp_path, monkeypatch):
    from woofbench.commands.run import run
    few = dict(size=16, epochs=1, seeds=1, arch='xresnet10_tiny', bs=128, say=None)
    for engine in ('fast','fastai'):
        libc.told.clear()
        a = run('digits', out=tmp_path/engine, engine=engine, **few)
        assert 'trim' in libc.told
        monkeypatch.setattr(memory, '_libc', lambda: None)
        b = run('digits', out=tmp_path/f'{engine}-without', engine=engine, **few)
        monkeypatch.setattr(memory, '_libc', lambda: libc)
        assert [o.correct for o in a.record.runs]==[o.correct for o in b.record.runs]
        assert [o.preds for o in a.record.runs]==[o.preds for o in b.record.runs]
