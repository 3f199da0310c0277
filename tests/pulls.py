"Repositories with pull requests in them, made with plain git, and rows that look as if networks had made them"
import json, os, subprocess
from pathlib import Path
import numpy as np
from conftest import root
from woofbench.board.stats.claims import BANDS
from woofbench.train.recipe import config_id, from_dict, recipes
from woofbench.board.record.preds import encode_preds
from woofbench.board.record.record import Made, make_record, record_id, record_path, to_bytes
from woofbench.board.record.strict import plain
from woofbench.files import source_sha
from woofbench.board.audit_flags import counted
from woofbench.board.record.seeds import official_seeds
from woofbench.data.track import make_track

N,BAND = 3929, BANDS['imagewoof',5]['s0']
edition = dict(edition='imagewoof2-320', known=True, manifest_sha256='0'*64, n_train=9025, n_val=N, twins=2,
               classes=[f'n{i}' for i in range(10)])
machine = dict(device='abacus', workers=0, threads=1, cores=1, cuda=None, platform='', python='',
               versions=dict(torch='2.14.1'), context='')


class Dogs:
    "Images that are hard or easy for every network, each with a breed that it is taken for"
    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.hard,self.like = self.rng.normal(size=N),self.rng.integers(1, 10, N)

    def network(self, acc):
        "Predictions of one seed, as differences to the labels"
        score = self.hard + .55*self.rng.normal(size=N)
        wrong = score>=np.quantile(score, acc)
        return np.where(wrong, np.where(self.rng.random(N)<.6, self.like, self.rng.integers(1, 10, N)), 0)

    def entry(self, acc=.7, seeds=None, noise=BAND, code=None, arch='xresnet10_tiny', created='2026-11-24T00:00:00Z',
              **kw):
        "A record of one official cell"
        track,recipe = make_track('imagewoof'),recipes('official')().but(arch=arch, **kw)
        def seed(s):
            preds = self.network(acc + noise*self.rng.normal()).tolist()
            k = preds.count(0)
            curve = [dict(train_loss=2.2-i/5, valid_loss=2.1-i/5, correct=k if i==4 else k*(i+1)//6, train_s=9.,
                          eval_s=1.) for i in range(5)]
            return dict(seed=s, correct=k, diverged=False, curve=curve, preds=encode_preds(preds, [0]*N, 10),
                        init_sha256=f'{s:016x}', peak_mem_mb=1, device='abacus')
        code = code or dict(version='0.1.0', source_sha256='0'*16, commit=None, dirty=None)
        runs = [seed(s) for s in seeds or official_seeds(config_id(track, recipe))]
        return make_record(track, recipe, edition, runs, Made(code, machine, counted(recipe.model, 128, 10), created))


def doctored(rec, f, own=False):
    "A copy that `f` changed, with ids that fit again; `own`: also a config_id"
    rec = json.loads(json.dumps(plain(rec)))
    f(rec)
    if own: rec['config_id'] = config_id(make_track(**rec['track']), from_dict(rec['recipe']))
    return rec | dict(record_id=record_id(rec))


def put(rec): return {record_path(rec).as_posix():to_bytes(rec)}


def rule(rec, state, why='because'):
    "The file of a ruling"
    text = json.dumps(dict(record_id=rec['record_id'], state=state, why=why, date='2026-11-27'), indent=1)
    return {f'rulings/{rec["record_id"]}.json':text.encode()}


class Repo:
    "A repository that is written to object by object, so that its trees may hold what git itself would refuse to add"
    def __init__(self, path):
        self.path = Path(path)
        self.env = {k:v for k,v in os.environ.items() if not k.startswith('GIT_')} | dict(GIT_CONFIG_GLOBAL='/dev/null',
                GIT_CONFIG_NOSYSTEM='1') | {
            f'GIT_{who}_{k}':v for who in ('AUTHOR','COMMITTER') for k,
            v in dict(NAME='a', EMAIL='a@example.org', DATE='2026-11-24T00:00:00Z').items()}
        subprocess.run(['git', 'init', '-qb', 'main', str(path)], check=True, env=self.env)

    def git(self, *args, data=None):
        return subprocess.run(['git', '-C', str(self.path), *args], input=data, capture_output=True, check=True,
                              env=self.env).stdout
    def sha(self, ref): return self.git('rev-parse', ref).decode().strip()
    def blob(self, data): return self.git('hash-object', '-w', '--stdin', data=data).decode().strip()

    def tree(self, files):
        "The hash of a tree of `files`: bytes of a path -> (mode, hash)"
        here,below = [],{}
        for p,o in files.items():
            first,_,rest = p.partition(b'/')
            if rest: below.setdefault(first, {})[rest] = o
            else: here.append((first, *o))
        here += [(p, '40000', self.tree(o)) for p,o in below.items()]
        lines = [f'{mode} {dict([("40000","tree"), ("160000","commit")]).get(mode, "blob")} {sha}\t'.encode() + p for p,
                 mode,sha in here]
        return self.git('mktree', '-z', '--missing', data=b''.join(o+b'\0' for o in lines)).decode().strip()

    def commit(self, files, *parents, ref=None, on=None):
        "A commit of `on`'s files and those changed: bytes, (mode, bytes or hash) or None by path; its hash"
        have = {}
        for o in self.git('ls-tree', '-r', '-z', on or parents[0]).split(b'\0')[:-1] if on or parents else []:
            facts,p = o.split(b'\t', 1)
            have[p] = facts.decode().split()[0::2]
        for p,o in files.items():
            mode,data = o if isinstance(o, tuple) else ('100644', o)
            have.pop(os.fsencode(p), None)
            if data is not None: have[os.fsencode(p)] = mode, data if isinstance(data, str) else self.blob(data)
        sha = self.git('commit-tree', self.tree(have), *(a for p in parents for a in ('-p', p)),
                       data=b'change').decode().strip()
        if ref: self.git('update-ref', ref, sha)
        return sha


def board(path):
    """A repository with this package, three rows, the first of which somebody has looked at, and a table; and the
    code of its first commit, as records have it"""
    from woofbench.board.row import Row
    from woofbench.board.table import to_csv
    repo = Repo(path)
    source = {o.relative_to(root).as_posix():o.read_bytes() for o in (root/'woofbench').rglob('*.py')}
    first = repo.commit(source, ref='refs/heads/main')
    code = dict(version='0.1.0', source_sha256=source_sha({k.removeprefix('woofbench/'):v for k,v in source.items()}),
                commit=first, dirty=False)
    dogs = Dogs()
    repo.rows = [dogs.entry(code=code, lr=lr) for lr in (1e-2, 9e-3, 8e-3)]
    files = {k:v for o in repo.rows for k,v in put(o).items()} | rule(min(repo.rows, key=lambda o: o['record_id']),
                                                                      'audited', 'somebody has seen these images')
    repo.base = repo.commit(files | {'leaderboard.csv':to_csv([Row(o) for o in repo.rows]).encode()}, first,
                            ref='refs/heads/main')
    repo.code,repo.dogs = code,dogs
    return repo
