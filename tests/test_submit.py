"""A row becomes a pull request: against a bare repository and a server that answers the few calls to GitHub that it
takes"""
import base64, http.server, json, os, re, shutil, socket, ssl, subprocess, sys, tempfile, threading, traceback, types
from functools import cache
import ghapi.core
import pytest
from conftest import root
from woofbench.board.check import check_base
from woofbench.board.record.git import changes, git
from woofbench.board.stats.claims import band, claim
from woofbench.models.costs import cost
from woofbench.data.manifest import edition_name
from woofbench.board.row import Row
from woofbench.train.recipe import config_id, from_dict
from woofbench.board.record.record import Made, as_record, make_record, read_record, record_id, to_bytes, write_record
from woofbench.files import source_sha
from woofbench.registry import BadInput
from woofbench.board.record.seeds import official_seeds
from woofbench.commands.submit import submit
from woofbench.data.track import Track, datasets

TOKEN = 'ghp_5ecretOfAnn0123456789abcdefghijklmno'
BASIC = base64.b64encode(f'x-access-token:{TOKEN}'.encode()).decode()
quiet = lambda line: None


@pytest.fixture(scope='module', autouse=True)
def one_context():
    "The server here speaks plain HTTP, and a client reads all certificates of the system for each call"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(ssl, 'create_default_context', cache(ssl.create_default_context))
        yield


# A project, its board, and a row that is not on it yet

def sh(where, *args, **kw):
    return subprocess.run(['git', '-C', str(where), *args], check=True, capture_output=True, text=True,
                          **kw).stdout.strip()

def official(old, code):
    "What a record at hand would look like in an official cell: other seeds and files, a small network"
    track,recipe = Track('imagewoof', 128, 5, '320'),from_dict(old['recipe']).but(arch='xresnet10_tiny')
    cid = config_id(track, recipe)
    runs = [r | dict(seed=s) for r,s in zip(old['runs'], official_seeds(cid))]
    data = old['data'] | dict(edition=edition_name(datasets['imagewoof'], '320'), known=True, n_train=9025)
    return make_record(track, recipe, data, runs, Made(code, old['env'], cost(recipe.model, 128), old['created']))

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A bare repository with a commit of code and one of a row; a better row that is not on it"
    work = tmp_path_factory.mktemp('made')
    (work/'woofbench').mkdir()
    (work/'woofbench/__init__.py').write_bytes(b'1\n')
    for o in ('init -q -b main', 'config user.name maker', 'config user.email maker@localhost', 'add .',
              'commit -q -m code'):
        sh(work, *o.split())
    code = dict(version='0.1.0', source_sha256=source_sha({'__init__.py':b'1\n'}), commit=sh(work, 'rev-parse', 'HEAD'),
                dirty=False)
    plain,good = (official(read_record(root/f'records/imagewoof/64-s192-e5/{o}.json'), code)
                  for o in ('c072a5aec173b467','5e6baa0e65028a65'))
    write_record(work, plain)
    for o in ('add .', 'commit -q -m row'): sh(work, *o.split())
    bare = tmp_path_factory.mktemp('bare')/'kennel'
    sh(work, 'clone', '-q', '--bare', str(work), str(bare))
    return bare, good, plain


class Refused(Exception):
    "A status of GitHub's, and its message"

ANN = {f'GIT_{a}_{k}':o for a in ('AUTHOR','COMMITTER') for k,
       o in (('NAME','ann'), ('EMAIL','7+ann@users.noreply.github.com'))}

def try_sh(where, *args, **kw):
    try: return sh(where, *args, **kw)
    except subprocess.CalledProcessError: return ''

def new_ref(repo, body):
    "`POST git/refs`, as GitHub answers it"
    if not re.fullmatch(r'refs/heads/[\w/.-]+', body['ref']) or set(body)!={'ref','sha'}:
        raise Refused(422, 'Reference name is not valid')
    if try_sh(repo, 'rev-parse', '--verify', '-q', body['ref']): raise Refused(422, 'Reference already exists')
    if try_sh(repo, 'cat-file', '-t', body['sha'])!='commit': raise Refused(422, 'Object does not exist')
    sh(repo, 'update-ref', body['ref'], body['sha'])
    return 201, dict(ref=body['ref'], object=dict(sha=body['sha'], type='commit'))

def move_ref(repo, name, body):
    "`PATCH git/refs/heads/...`: only forward, unless it is forced"
    now = try_sh(repo, 'rev-parse', '--verify', '-q', f'refs/heads/{name}')
    if not now: raise Refused(422, 'Reference does not exist')
    if try_sh(repo, 'cat-file', '-t', body['sha'])!='commit': raise Refused(422, 'Object does not exist')
    if not body.get('force') and try_sh(repo, 'merge-base', now, body['sha'])!=now:
        raise Refused(422, 'Update is not a fast forward')
    sh(repo, 'update-ref', f'refs/heads/{name}', body['sha'])
    return 200, dict(ref=f'refs/heads/{name}', object=dict(sha=body['sha'], type='commit'))

def new_file(repo, path, body):
    "`PUT contents/...`: a commit on the branch, by the account that asks"
    ref = f'refs/heads/{body["branch"]}'
    if not try_sh(repo, 'rev-parse', '--verify', '-q', ref): raise Refused(404, f'Branch {body["branch"]} not found')
    if try_sh(repo, 'cat-file', '-t', f'{ref}:{path}'): raise Refused(422, '"sha" wasn\'t supplied') # the file is there
    env = os.environ | ANN | dict(GIT_INDEX_FILE=str(repo/'api.index'))
    raw = base64.b64decode(body['content'], validate=True)
    blob = subprocess.run(['git', '-C', str(repo), 'hash-object', '-w', '--stdin'], input=raw, check=True,
                          capture_output=True).stdout.decode().strip()
    sh(repo, 'read-tree', ref, env=env)
    sh(repo, 'update-index', '--add', '--cacheinfo', f'100644,{blob},{path}', env=env)
    commit = sh(repo, 'commit-tree', sh(repo, 'write-tree', env=env), '-p', ref, '-m', body['message'], env=env)
    sh(repo, 'update-ref', ref, commit)
    return 201, dict(content=dict(path=path, sha=blob), commit=dict(sha=commit, message=body['message']))


def new_tree(repo, body):
    "`POST git/trees`: files beside those of another tree"
    if try_sh(repo, 'cat-file', '-t', body['base_tree'])!='tree': raise Refused(422, 'base_tree is not a tree')
    env = os.environ | dict(GIT_INDEX_FILE=str(repo/'api.index'))
    sh(repo, 'read-tree', body['base_tree'], env=env)
    for o in body['tree']:
        blob = subprocess.run(['git', '-C', str(repo), 'hash-object', '-w', '--stdin'], input=o['content'].encode(),
                              check=True, capture_output=True).stdout.decode().strip()
        sh(repo, 'update-index', '--add', '--cacheinfo', f'{o["mode"]},{blob},{o["path"]}', env=env)
    return 201, dict(sha=sh(repo, 'write-tree', env=env))

def new_commit(repo, body):
    "`POST git/commits`"
    if any(try_sh(repo, 'cat-file', '-t', o)!='commit' for o in body['parents']): raise Refused(422, 'No such parent')
    parents = [a for o in body['parents'] for a in ('-p', o)]
    return 201, dict(sha=sh(repo, 'commit-tree', body['tree'], *parents, '-m', body['message'], env=os.environ | ANN))


class GitHub(http.server.BaseHTTPRequestHandler):
    "Users, forks, branches, files and pull requests behind the token; git for everyone, and only to read"
    def log_message(self, *args): pass
    def do_POST(self): self.answer('POST')
    def do_GET(self): self.answer('GET')
    def do_PUT(self): self.answer('PUT')
    def do_PATCH(self): self.answer('PATCH')

    def answer(self, verb):
        path,_,query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if not path.startswith('/api/v3'): return self.git(verb, path, query, body)
        path,hub = path.removeprefix('/api/v3'),self.server
        hub.calls.append(f'{verb} {path}')
        status,said = next((o for k,o in hub.fails.items() if re.fullmatch(k, f'{verb} {path}')), (None, None))
        if status is None:
            status,said = (401, dict(message='Bad credentials')) if TOKEN not in self.headers.get('Authorization',
                    '') else self.api(verb, path, query, json.loads(body or 'null'))
        self.send(status, said if isinstance(said, bytes) else json.dumps(said).encode(), 'application/json')

    def api(self, verb, path, query, body):
        hub,parts = self.server,path.split('/')[1:]
        if path=='/user': return 200, dict(login='ann', id=7)
        if path=='/repos/dogs/kennel/forks':
            shutil.copytree(hub.root/'dogs/kennel', hub.root/'ann/kennel')
            return 202, dict(full_name='ann/kennel')
        if path=='/repos/dogs/kennel/pulls' and verb=='GET': return 200, hub.pulls
        if path=='/repos/dogs/kennel/pulls':
            hub.pulls.append(body | dict(html_url=f'{hub.url}/dogs/kennel/pull/1',
                                         head=dict(ref=body['head'].split(':')[1], label=body['head']), state='open'))
            return 201, hub.pulls[-1]
        if len(parts)>2 and (hub.root/parts[1]/parts[2]).exists():
            if verb!='GET': return self.write(verb, parts[1:3], '/'.join(parts[3:]), body)
            if parts[3:5]==['git','commits']:
                tree = try_sh(hub.root/parts[1]/parts[2], 'rev-parse', f'{parts[5]}^{{tree}}')
                return (200, dict(sha=parts[5], tree=dict(sha=tree))) if tree else (404, dict(message='Not Found'))
            if parts[3:]==['branches','main']:
                hub.wait -= 1
                return (404, dict(message='Branch not found')) if hub.wait>=0 else (200, dict(name='main'))
            return 200, dict(full_name='/'.join(parts[1:3]), permissions=dict(push=parts[1]=='ann' or hub.may_push),
                             parent=dict(full_name='dogs/kennel') if parts[1]=='ann' else None)
        return 404, dict(message='Not Found')

    def write(self, verb, names, rest, body):
        "A branch or a file of a repository to which the account may write"
        hub,repo = self.server,self.server.root.joinpath(*names)
        hub.writes.append(f'{verb} {rest}')
        hub.watch(body)
        if names[0]!='ann' and not hub.may_push: return 403, dict(message='Resource not accessible')
        try:
            if (verb,rest)==('POST','git/refs'): return new_ref(repo, body)
            if (verb,rest)==('POST','git/trees'): return new_tree(repo, body)
            if (verb,rest)==('POST','git/commits'): return new_commit(repo, body)
            if verb=='PATCH' and rest.startswith('git/refs/heads/'):
                return move_ref(repo, rest.removeprefix('git/refs/heads/'), body)
            if verb=='PUT' and rest.startswith('contents/'): return new_file(repo, rest.removeprefix('contents/'), body)
        except Refused as e: return e.args[0], dict(message=e.args[1])
        return 404, dict(message='Not Found')

    def git(self, verb, path, query, body):
        "`git http-backend`, to read from; what is asked for with a password or to write is noted"
        if self.headers.get('Authorization') or 'receive-pack' in path+query:
            self.server.pushes.append(f'{verb} {self.path}')
            return self.send(403, b'git is to be read from only', 'text/plain')
        env = dict(PATH=os.environ['PATH'], GIT_PROJECT_ROOT=str(self.server.root), GIT_HTTP_EXPORT_ALL='1',
                   PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=verb,
                   CONTENT_TYPE=self.headers.get('Content-Type', ''),
                   CONTENT_LENGTH=str(len(body)), HTTP_CONTENT_ENCODING=self.headers.get('Content-Encoding', ''),
                   GIT_PROTOCOL=self.headers.get('Git-Protocol', ''))
        head,_,res = subprocess.run(['git', 'http-backend'], input=body, capture_output=True,
                                    env=env).stdout.partition(b'\r\n\r\n')
        heads = dict(o.split(': ', 1) for o in head.decode().splitlines())
        self.send(int(heads.pop('Status', '200').split()[0]), res, heads.pop('Content-Type', 'text/plain'), heads)

    def send(self, status, body, kind, heads=()):
        self.send_response(status)
        for k,v in (dict(heads) | {'Content-Type':kind, 'Content-Length':str(len(body))}).items():
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope='module')
def server():
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), GitHub)
    s.url = f'http://127.0.0.1:{s.server_port}'
    threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=.01), daemon=True).start()
    yield s
    s.shutdown()
    s.server_close()

api = cache(ghapi.core.GhApi)

def _without(monkeypatch, drawn):
    "Leave out what takes long and is the same each time: reading GitHub's description of itself, and drawing"
    from matplotlib.figure import Figure
    monkeypatch.setattr(ghapi.core, 'GhApi', api)
    if not drawn: monkeypatch.setattr(Figure, 'savefig', lambda self, path, **kw: path.write_bytes(b'drawn'))

@pytest.fixture
def hub(server, made, tmp_path, monkeypatch, request):
    "A server with the project `dogs/kennel`, and a machine that knows nobody"
    for k in [o for o in os.environ if o.startswith('GIT_') or o in ('GITHUB_TOKEN','GH_TOKEN','GITHUB_JWT_TOKEN')]:
        monkeypatch.delenv(k)
    (tmp_path/'home').mkdir()
    for k,v in dict(HOME=tmp_path/'home', GIT_CONFIG_NOSYSTEM=1, XDG_CONFIG_HOME=tmp_path/'home').items():
        monkeypatch.setenv(k, str(v))
    _without(monkeypatch, 'text' in request.node.name)
    server.root,server.calls,server.pulls,server.writes,server.pushes = tmp_path/'server',[],[],[],[]
    server.fails,server.wait,server.may_push,server.watch = {},0,False,lambda body: None
    shutil.copytree(made[0], server.root/'dogs/kennel')
    yield server
    assert not server.pushes, 'git has neither the token nor anything to send'

@pytest.fixture
def out(made, tmp_path):
    "A folder with the row in it"
    write_record(tmp_path/'out', made[1])
    return tmp_path/'out'

@pytest.fixture
def send(hub, out, made):
    "`submit` of the row to the server"
    return lambda row=None, **kw: submit(row or made[1]['record_id'],
                                         **(dict(out=out, repo=f'{hub.url}/dogs/kennel', token=TOKEN, say=quiet) | kw))

def clone_of(hub, to):
    "A clone that knows the project, without a way to it"
    sh(hub.root, 'clone', '-q', str(hub.root/'dogs/kennel'), str(to))
    sh(to, 'remote', 'set-url', 'origin', f'{hub.url}/dogs/kennel.git')
    return to

def stops(f, match, frames=True):
    """The one line with which `f` is refused, which has nothing of the token, and neither has anything that hangs on
    the error"""
    with pytest.raises(BadInput, match=match) as info: f()
    e,line = info.value,str(info.value)
    assert len(line.splitlines())==1 and not leaks(line)
    seen = [o for o in traceback.TracebackException(type(e), e, e.__traceback__, capture_locals=True).stack
            if str(root/'woofbench') in o.filename]
    assert not frames or seen and not [o for o in seen
                                       if leaks(str(o.locals))], 'also where a traceback shows the variables'
    while e := e.__cause__ or e.__context__: assert not leaks(f'{e} {vars(e)} {e.args}')
    return line

def leaks(text): return TOKEN in text or BASIC in text or TOKEN[:20] in text or BASIC[:30] in text


# What is sent

def test_fork_branch_and_request(hub, send, made, out, monkeypatch):
    monkeypatch.setattr('woofbench.commands.submit.time.sleep', lambda s: None)
    hub.wait,lines,rid = 2,[],made[1]['record_id'] # the fork takes a moment
    assert send(method='Mish and friends', authors='ann bob-1', say=lines.append)==f'{hub.url}/dogs/kennel/pull/1'
    pull, = hub.pulls
    assert pull['head']['label']==f'ann:row/{rid}' and pull['base']=='main'
    assert pull['title'].startswith(
            'imagewoof, 128 px from 320, 5 epochs: 43.53') and 'Mish and friends' in pull['title']
    fork = hub.root/'ann/kennel'
    (status,mode,sha,path), = changes(fork, 'main', f'row/{rid}')
    assert (status,mode,path)==('A', '100644', f'records/imagewoof/128-s320-e5/{rid}.json')
    sent = json.loads(git(fork, 'cat-file', 'blob', sha))
    assert sent==json.loads(to_bytes(made[1])) | dict(claim=dict(method='Mish and friends',
                                                                 authors='ann bob-1')) and record_id(sent)==rid
    rep = check_base('main', f'row/{rid}', fork)
    assert rep.word=='new best' and not rep.other, str(rep)
    assert rep.items[0][1].reasons[0] in pull['body'] and 'new best' in '\n'.join(lines)
    assert sh(fork, 'log', '-1', '--format=%an %ae %cn', f'row/{rid}')=='ann 7+ann@users.noreply.github.com ann'
    assert sh(hub.root/'dogs/kennel', 'branch', '--format=%(refname:short)')=='main'
    assert hub.calls.count(
            'POST /repos/dogs/kennel/forks')==1 and hub.calls.count('GET /repos/ann/kennel/branches/main')==3
    assert read_record(next((out/'records').rglob('*.json')))==made[1], 'the record at home is as it was'

def test_the_text(hub, send, made, out):
    row,plain = Row(made[1]),Row(made[2])
    send()
    body = hub.pulls[0]['body']
    for r in row.runs: assert f'| {r["seed"]} | {r["correct"]} of 3929 |' in body
    for o in (f'woofbench reproduce {row.id}', f'{100*row.mean:.2f} ± {100*row.std:.2f} %', f'`{plain.id}`',
              f'{100*(row.mean-plain.mean):+.2f} points',
              f'p_beat {claim(row.acc, plain.acc, band("imagewoof", 5))["p_beat"]:.2f}', '1 recipe tried',
              row.record['env']['device'], 'torch'):
        assert o in body, o
    folder = out/f'.woofbench/submit/{row.id}'
    assert (folder/'text.md').read_text(
            encoding='utf-8')==body and (folder/f'{row.id}.json').read_bytes()==to_bytes(row.record)

def test_the_second_time_finds_the_first(hub, send):
    first,lines = send(),[]
    writes = list(hub.writes)
    assert send(method='another name',
                say=lines.append)==first and len(hub.pulls)==1 and hub.writes==writes and len(writes)==2
    assert 'open pull request' in lines[-1]

def test_where_one_may_write_there_is_no_fork(hub, send, made):
    hub.may_push = True
    send(Row(made[1]))
    assert not (hub.root/'ann').exists() and hub.pulls[0]['head']['label']==f'dogs:row/{made[1]["record_id"]}'
    assert check_base('main', f'row/{made[1]["record_id"]}', hub.root/'dogs/kennel').ok

def test_a_fork_that_is_there_is_used_and_an_old_branch_replaced(hub, send, made):
    shutil.copytree(made[0], hub.root/'ann/kennel')
    branch = f'row/{made[1]["record_id"]}'
    sh(hub.root/'ann/kennel', 'update-ref', f'refs/heads/{branch}', 'main~1')
    send()
    assert 'POST /repos/dogs/kennel/forks' not in hub.calls and len(changes(hub.root/'ann/kennel', 'main', branch))==1
    assert sh(hub.root/'ann/kennel', 'rev-list', '--count', f'main..{branch}')=='1'
    assert hub.writes==['POST git/refs', f'PATCH git/refs/heads/{branch}',
                        f'PUT contents/records/imagewoof/128-s320-e5/{branch[4:]}.json']

def test_an_old_branch_that_went_another_way_is_replaced(hub, send, made):
    "What an attempt has left there, a file of the same name included, is not under the new one"
    shutil.copytree(made[0], hub.root/'ann/kennel')
    fork,rid = hub.root/'ann/kennel',made[1]['record_id']
    new_ref(fork, dict(ref=f'refs/heads/row/{rid}', sha=sh(fork, 'rev-parse', 'main~1')))
    for name in ('stray', f'records/imagewoof/128-s320-e5/{rid}.json'):
        new_file(fork, name, dict(branch=f'row/{rid}', message='old', content=base64.b64encode(b'old').decode()))
    send()
    assert check_base('main', f'row/{rid}', fork).ok and len(changes(fork, 'main', f'row/{rid}'))==1

def test_the_branch_begins_where_the_check_looked(hub, send, made):
    "Whatever the fork's own main branch has become"
    shutil.copytree(made[0], hub.root/'ann/kennel')
    fork,branch = hub.root/'ann/kennel',f'row/{made[1]["record_id"]}'
    new_file(fork, 'stray', dict(branch='main', message='news', content=''))
    send()
    assert sh(fork, 'rev-parse', f'{branch}~1')==sh(hub.root/'dogs/kennel', 'rev-parse', 'main')!=sh(fork, 'rev-parse',
            'main')

def test_a_fork_that_is_behind(hub, send, made):
    "It cannot have the branch, and you are told what to press"
    fork = hub.root/'ann/kennel'
    sh(made[0], 'clone', '-q', '--bare', '--no-local', '--depth', '1', f'file://{made[0]}', str(fork))
    new_ref(hub.root/'dogs/kennel', dict(ref='refs/heads/side', sha=sh(hub.root/'dogs/kennel', 'rev-parse', 'main')))
    new_file(hub.root/'dogs/kennel', 'news', dict(branch='main', message='news', content=''))
    stops(send, 'could not make the branch .*"Sync fork".*422')
    assert not hub.pulls

def test_a_local_clone_is_read_and_left_alone(hub, send, tmp_path):
    here = clone_of(hub, tmp_path/'clone')
    def state(): return {o.relative_to(here):o.read_bytes() for o in sorted(here.rglob('*')) if o.is_file()}
    before = state()
    send(clone=here, dry=True)
    assert state()==before and not hub.calls
    sh(here, 'remote', 'set-url', 'origin', f'{hub.url}/cats/kennel')
    stops(lambda: send(clone=here), 'is not a clone of')


def test_the_repository_of_a_hook_is_left_alone(hub, send, tmp_path, monkeypatch):
    here = clone_of(hub, tmp_path/'clone')
    before = {o:o.read_bytes() for o in here.rglob('*') if o.is_file()}
    for k,v in dict(GIT_DIR=here/'.git', GIT_INDEX_FILE=here/'.git/index', GIT_WORK_TREE=here).items():
        monkeypatch.setenv(k, str(v))
    assert send(dry=True)==''
    assert before=={o:o.read_bytes() for o in here.rglob('*') if o.is_file()}

def test_a_shallow_clone_cannot_say_what_is_in_the_history(hub, send, tmp_path):
    sh(tmp_path, 'clone', '-q', '--depth', '1', f'{hub.url}/dogs/kennel', 'clone')
    stops(lambda: send(clone=tmp_path/'clone'), 'fetch --unshallow')


# What is not

def test_a_dry_run_sends_nothing(hub, send, out):
    lines = []
    assert send(dry=True, say=lines.append)=='' and not hub.calls
    assert 'woofbench reproduce' in '\n'.join(lines) and list(out.rglob('text.md'))

def broken(rec): return rec | dict(runs=[rec['runs'][0] | dict(correct=1), *rec['runs'][1:]])

def copied(rec, of):
    "The predictions of another row under a name of one's own"
    runs = [r | dict(seed=s, init_sha256=f'{s:064x}') for r,s in zip(of['runs'], (o['seed'] for o in rec['runs']))]
    rec = rec | dict(runs=sorted(runs, key=lambda o: o['seed']))
    return rec | dict(record_id=record_id(rec))

@pytest.mark.parametrize('what,match',
                         dict(broken='changed after', copied='the same predictions as', there='on the board already',
                              odd='record: Object contains unknown field extra',
                              place='must be|cannot|unknown|number|source').items())
def test_invalid_rows_stop_here(what, match, hub, send, made, out):
    bare,good,plain = made
    rec = dict(broken=broken(good), copied=copied(good, plain), there=plain, odd=good | dict(extra=1),
               place=good | dict(track=good['track'] | dict(source='../../..')))[what]
    line = stops(lambda: send(Row(as_record(rec))), match)
    assert not hub.calls and not (out/'.woofbench').exists(), line

def test_a_file_that_is_no_record(send, tmp_path):
    (tmp_path/'x.json').write_text('{"schema": 2}')
    stops(lambda: send(tmp_path/'x.json'), 'x.json')
    stops(lambda: send('0123456789abcdef'), "no record '0123456789abcdef' below")

hostile = ['[x](https://evil.example)', '<img src=x>', '`rm`', 'fixes #1', 'closes GH-1', 'thanks @bob',
           'see https://evil.example', 'two\nlines', '=cmd()', '-x', ' x', 'x'*81, 'a\u202eb', '\x1b[31m', 'a|b', '\\']
@pytest.mark.parametrize('method', hostile)
def test_hostile_methods(method, send): stops(lambda: send(method=method), 'a method is')

@pytest.mark.parametrize('authors',
                         ['@ann', 'ann,bob', '-ann', 'a--b', 'x'*40, 'ann <a@b>', 'ånn',
                          ' '.join(f'ann{i}'+'x'*30 for i in range(9))])
def test_hostile_authors(authors, send): stops(lambda: send(authors=authors), 'login|too many')

def test_a_note_is_only_text(hub, send, made):
    "What a record may hold and a text may not: it is shown as code, and calls nobody and closes nothing"
    def row(device='abacus', method=''):
        rec = made[1] | dict(note='thanks @bob, fixes #1, see https://evil.example *now* _and_ ~then~ $x$',
                             claim=dict(method=method, authors=''))
        rec |= dict(env=rec['env'] | dict(device=device), runs=[r | dict(device=device) for r in rec['runs']])
        return Row(as_record(rec | dict(record_id=record_id(rec))))
    for device in ('bob@home', 'box #2', 'www.evil.example', 'https://evil.example', 'a*b*'):
        stops(lambda device=device: send(row(device)), 'device is not plain text')
    stops(lambda: send(row(method='the *best* _one_')), 'a method is')
    send(row())
    body = hub.pulls[0]['body']
    assert '@' not in body and not re.search(r'#\d', body) and 'fixes ＃1' in body
    assert not re.search(r'evil|\*now', re.sub(r'`[^`\n]*`', '', body)), 'free text is in code spans alone'

def test_old_records_have_no_claim(send):
    old = root/'records/digits/32-s32-e5/12de6e5acfcd9fba.json'
    stops(lambda: send(old, method='x', dry=True), 'schema 1 has no place')
    stops(lambda: send(old, dry=True), 'of schema 1, and a new record is of schema 3')


# When GitHub says no

calls = {'user':'GET /user', 'repository':'GET /repos/dogs/kennel', 'fork':'POST /repos/dogs/kennel/forks',
         'list':'GET /repos/dogs/kennel/pulls', 'branch':'POST /repos/ann/kennel/git/refs',
         'file':'PUT /repos/ann/kennel/contents/.*', 'open':'POST /repos/dogs/kennel/pulls'}
answers = [('user',401,'wrong, or has expired'), ('repository',404,'does not reach it'), ('fork',403,'public_repo'),
           ('list',500,'try again later'), ('branch',403,'make the branch row/.* of ann/kennel.*public_repo'),
           ('file',409,'write records/.*json to ann/kennel'), ('file',502,'try again later'),
           ('open',422,'already exists'), ('open',403,'opens it by hand'), ('user',429,'wait a while')]
@pytest.mark.parametrize('call,status,match', answers)
def test_errors_are_one_line(call, status, match, hub, send, made):
    "A server that sends the token back, whole and in its other form, is not believed either"
    hub.fails[calls[call]] = status, dict(message=f'Sorry {TOKEN} and {BASIC}'*9,
                                          errors=[dict(message='A pull request already exists')] if call=='open'
                                          else 'odd')
    if call=='open': hub.fails[calls[call]][1]['message'] = f'Validation {TOKEN}\n'
    line = stops(send, match)
    assert str(status) in line and not hub.pulls
    hub.fails.clear()
    assert send() and len(hub.pulls)==1, 'the same command again goes on'

@pytest.mark.parametrize('call', calls)
@pytest.mark.parametrize('said',
                         [b'<html>', b'[1]', b'null', b'{"login": "../../x", "full_name": "../../x", "html_url": 1}'])
def test_answers_that_are_none(call, said, hub, send):
    hub.fails[calls[call]] = 200, said
    if call=='list' or call=='repository' and b'full_name' in said: assert send() and len(hub.pulls)==1
    else: stops(send, 'does not answer as GitHub|the address of a repository')

def test_a_fork_that_never_gets_ready(hub, send, monkeypatch):
    monkeypatch.setattr('woofbench.commands.submit.time.sleep', lambda s: None)
    hub.wait = 99
    stops(send, 'still not ready')
    assert not hub.writes

def test_no_answer(hub, send, tmp_path, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda s: None)
    with socket.socket() as o: # a port that nobody listens at
        o.bind(('127.0.0.1', 0))
        monkeypatch.setattr(hub, 'url', f'http://127.0.0.1:{o.getsockname()[1]}')
        stops(lambda: send(clone=clone_of(hub, tmp_path/'clone')), 'no answer')
        stops(send, 'git fetch')

def test_a_token_that_may_not_write(hub, send, made, tmp_path):
    "You are not asked for another one: by no terminal, no program, and no helper that keeps passwords"
    shutil.copytree(made[0], hub.root/'ann/kennel')
    asked = tmp_path/'asked'
    (tmp_path/'home/.gitconfig').write_text(
            f'[credential]\n\thelper = "!echo >> {asked};"\n[core]\n\taskPass = "echo >> {asked};"\n')
    for call in ('POST /repos/ann/kennel/git/refs', 'PUT /repos/ann/kennel/contents/.*'):
        hub.fails = {call: (403, dict(message='Resource not accessible by personal access token'))}
        stops(send, 'could not (make the branch|write).*ann/kennel.*403.*public_repo')
    assert hub.writes==['POST git/refs'] and not hub.pulls and not asked.exists()


# The token

def test_the_token_is_nowhere(hub, send, made, out, tmp_path, monkeypatch, capfd):
    """Arguments and environments of all processes, git's settings and logs while it works, every file then and
    afterwards, all that is printed"""
    real,log,kept = shutil.which('git'),tmp_path/'argv',tmp_path/'kept'
    for o in ('bin','tmp','kept'): (tmp_path/o).mkdir()
    (tmp_path/'bin/git').write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\nenv | grep -v ^GITHUB_TOKEN= >> {log}\ncase "$*" in *" fetch '
            f'"*) {real} -C "$2" config --list --show-origin > {kept}/settings 2>&1;; esac\nexec {real} "$@"\n')
    (tmp_path/'bin/git').chmod(0o755)
    (tmp_path/'home/.gitconfig').write_text(
            f'[credential]\n\thelper = store --file {tmp_path}/home/stored\n[http "{hub.url}"]\n\textraheader = '
            'X-Mine: 1\n')
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    monkeypatch.setenv('GITHUB_TOKEN', TOKEN)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path/'tmp'))
    for k,v in dict(GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0='user.name', GIT_CONFIG_VALUE_0='x',
                    GIT_TRACE=tmp_path/'trace', GIT_TRACE_CURL=tmp_path/'curl', GIT_TRACE_REDACT='0').items():
        monkeypatch.setenv(k, str(v))
    def watch(body):
        shutil.copytree(tmp_path/'tmp', kept/str(len(hub.writes)))
        with log.open('a') as f:
            f.write(subprocess.run(['ps', '-ww', '-e', '-o', 'args'], capture_output=True, text=True).stdout)
        assert not leaks(json.dumps(body))
    hub.watch = watch
    assert send(token=None, say=print) and len(hub.pulls)==1
    assert len(hub.writes)==2 and not [o for o in hub.calls
                                       if 'access_token' in o], 'the token has come to where it belongs: a header'
    text = log.read_text()
    assert ' fetch ' in text and 'commit-tree' in text and ' push ' not in text and 'pytest' in text
    files = [o for o in tmp_path.rglob('*') if o.is_file()]
    assert 'extraheader' in (kept/'settings').read_text() and (tmp_path/'curl').stat().st_size
    assert not [o for o in files if leaks(o.read_bytes().decode(errors='replace'))]
    said = capfd.readouterr()
    assert said.out and not leaks(said.out + said.err) and not leaks(hub.pulls[0]['body'] + hub.pulls[0]['title'])

def test_where_a_token_comes_from(hub, send, monkeypatch):
    from woofbench.commands.submit import token_of
    assert token_of() is None
    monkeypatch.setenv('GH_TOKEN', TOKEN)
    assert token_of()==TOKEN and repr(token_of())=="'***'"
    monkeypatch.delenv('GH_TOKEN')
    class NoSecret(Exception): pass
    def get(k):
        if k!='GH_TOKEN': raise NoSecret(k)
        return TOKEN
    monkeypatch.setitem(sys.modules, 'google.colab', types.SimpleNamespace(userdata=types.SimpleNamespace(get=get)))
    monkeypatch.setitem(sys.modules, 'google', types.ModuleType('google'))
    assert token_of()==TOKEN
    stops(lambda: send(token=TOKEN+'\nX-Evil: 1'), 'characters that no token has')

@pytest.mark.parametrize('address',
                         [f'https://{TOKEN}@github.com/a/b', 'http://github.com/a/b', 'git@github.com:a/b',
                          'https://github.com/a', 'https://github.com/a/../b', '', 'file:///a/b',
                          f'https://ann:{TOKEN}@github.com/a/b'])
def test_addresses(address, send): stops(lambda: send(repo=address), 'the address of a repository', frames=False)

def test_without_ghapi(send, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ghapi.core', None)
    stops(send, 'pip install ghapi')


# By hand

def test_without_a_token_the_steps_work(hub, send, made, tmp_path, monkeypatch):
    "The commands that are printed, typed into a shell, give a branch that passes the check"
    shutil.copytree(made[0], hub.root/'ann/kennel')
    lines,rid = [],made[1]['record_id']
    link = send(token=None, say=lines.append)
    text = '\n'.join(lines)
    assert link==f'{hub.url}/dogs/kennel/upload/main/records/imagewoof/128-s320-e5' and link in text and not hub.calls
    assert f'{hub.url}/dogs/kennel/compare/main...YOU:row/{rid}?expand=1' in text and 'woofbench reproduce' in text
    start = text.index('  git clone')
    steps = [o.strip() for o in text[start:text.index('  and open')].splitlines()]
    assert steps[-1]==f'git push -u origin row/{rid}'
    (tmp_path/'shell').mkdir()
    who = dict(GIT_AUTHOR_NAME='ann', GIT_AUTHOR_EMAIL='ann@localhost', GIT_COMMITTER_NAME='ann',
               GIT_COMMITTER_EMAIL='ann@localhost')
    subprocess.run(['sh', '-e', '-c', '\n'.join(steps[:-1]).replace('YOU', 'ann')], cwd=tmp_path/'shell', check=True,
                   capture_output=True, env=os.environ | who)
    assert check_base('origin/main', f'row/{rid}', tmp_path/'shell/kennel').word=='new best'

def test_short_records_fit_into_a_link():
    from urllib.parse import parse_qs, urlsplit
    from woofbench.commands.request import _LONGEST, link_of
    from woofbench.board.record.git import repo_of
    old = read_record(root/'records/digits/32-s32-e5/12de6e5acfcd9fba.json')
    raw = to_bytes(old | dict(runs=old['runs'][:3]))
    link = link_of(repo_of('https://github.com/dogs/kennel'), 'records/x/y/z.json', raw)
    q = parse_qs(urlsplit(link).query, strict_parsing=True)
    assert len(link)<=_LONGEST and q['filename']==['records/x/y/z.json'] and q['value'][0].encode()==raw

def test_the_projects_own_address():
    from woofbench.board.record.git import repo_of
    line = re.search(r'^Repository = "(.+)"', (root/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]
    assert repo_of().url==line and repo_of().api=='https://api.github.com'


# From a shell

def test_the_command(hub, cli, out, made, monkeypatch):
    rid = made[1]['record_id']
    line = f'submit {rid} --out {out} --repo {hub.url}/dogs/kennel --method Mish --authors "ann bob"'
    rc,text,err = cli(f'{line} --dry-run')
    assert rc==0 and not err and 'nothing was sent' in text and not hub.calls
    monkeypatch.setenv('GH_TOKEN', TOKEN)
    rc,text,err = cli(line)
    assert rc==0 and not err and f'opened {hub.url}/dogs/kennel/pull/1' in text and len(hub.pulls)==1

def test_the_commands_mistakes(hub, out, made, refused):
    for o in ('submit', 'submit nothing', f'submit {made[1]["record_id"]} --out {out} --method "@x"',
              f'submit {made[1]["record_id"]} --out {out} --repo here', f'submit x --token {TOKEN}'):
        refused(o)
