"""Programs that begin with PyTorch and fastai imported already: one process imports them, and forks for each program.

    p = python(code, *arguments, cwd=..., env=...)    # as `subprocess.run([sys.executable, '-c', code, ...])`
    p = Program(['-m', 'woofbench', 'run'], cwd=..., env=...)    # as `subprocess.Popen`
    env['WOOFBENCH'] = program(folder)    # for a shell script, which calls `woofbench`

An import of PyTorch and fastai costs four seconds of a processor. Everything of woofbench itself is imported anew, from
the PYTHONPATH and the folder that the program is given. Tests of what is imported, of how Python begins and of other
systems take a real process. Other systems than Linux, which have no safe `fork`, always get real processes.
"""
import contextlib, json, os, shlex, signal, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

ALREADY = ('torch','fastai.learner','fastai.callback.all','fastai.distributed','fastai.data.all','pandas','psutil')
HOME = Path(os.environ['WOOFBENCH_CACHE']).parent if 'WOOFBENCH_CACHE' in os.environ else None # conftest.py cleans up
_server = {} # of this process


# The server

def _forget_own(path):
    "`sys.path` without the folder of this file, and without what PYTHONPATH has"
    own = {str(Path(__file__).parent), *os.environ.get('PYTHONPATH', '').split(os.pathsep)}
    return [o for o in path if o not in own]

def _asked(conn):
    "What to run, and its three streams"
    raw,fds,*_ = socket.recv_fds(conn, 1<<16, 3)
    while not raw.endswith(b'\n'): raw += conn.recv(1<<16)
    return json.loads(raw), fds

def _become(asked, fds, path):
    "Take the streams, the folder and the environment of the program"
    for i,fd in enumerate(fds): os.dup2(fd, i)
    for fd in fds: os.close(fd)
    for i,k in enumerate(('stdin','stdout','stderr')):
        stream = open(i, 'wr'[not i], closefd=False, errors='backslashreplace' if i==2 else None)
        setattr(sys, k, stream)
        setattr(sys, f'__{k}__', stream)
    os.chdir(asked['cwd'])
    os.environ.clear()
    os.environ.update(asked['env'])
    tempfile.tempdir = None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:] = [*filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep)), *path]

def _run(words):
    "As Python does with such arguments"
    import importlib, runpy, types
    importlib.invalidate_caches()
    how,*more = words
    if how=='woofbench': # the installed program
        sys.argv,main = words,importlib.import_module('woofbench').main
        sys.exit(main())
    elif how=='-c':
        sys.path.insert(0, '')
        sys.argv,main = ['-c', *more[1:]],types.ModuleType('__main__')
        sys.modules['__main__'] = main
        exec(compile(more[0], '<string>', 'exec'), vars(main))
    elif how=='-m':
        sys.path.insert(0, os.getcwd())
        sys.argv = ['-m', *more[1:]]
        runpy.run_module(more[0], run_name='__main__', alter_sys=True)
    else:
        sys.path.insert(0, str(Path(how).parent))
        sys.argv = words
        runpy.run_path(how, run_name='__main__')

def _end(run):
    "Run, and end as Python does, but for the freeing of memory"
    import atexit, traceback
    code = 0
    try: run()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
        if not isinstance(e.code, (int,type(None))): print(e.code, file=sys.stderr)
    except KeyboardInterrupt: code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for o in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception): o.flush()
    os._exit(code)

def _keep(conn):
    "Start a program and tell its number, then how it ended; what to run, in the program itself"
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked,fds = _asked(conn)
    pid = os.fork()
    if not pid: return asked, fds
    for fd in (0,1,2,*fds): os.close(fd)
    try:
        conn.sendall(b'%d\n' % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        conn.sendall(b'%d\n' % code)
    finally: os._exit(0)

def _serve(address):
    "Until the process that started this one is gone; gives what to run, in a process of its own"
    import gc, importlib, select
    for o in ALREADY: importlib.import_module(o)
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f'{address}~')
    listener.listen(8)
    os.rename(f'{address}~', address) # it is there when it listens
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if 0 in select.select([listener, 0], [], [])[0]: os._exit(0) # the pipe from it is closed
        conn,_ = listener.accept()
        if not os.fork():
            listener.close()
            asked = _keep(conn)
            conn.close()
            return asked
        conn.close()


# Those who ask

def _ask(address, words, cwd, env, fds):
    "The connection, after the request"
    conn = socket.socket(socket.AF_UNIX)
    conn.connect(address)
    raw = json.dumps(dict(words=words, cwd=cwd, env=env)).encode()+b'\n'
    sent = socket.send_fds(conn, [raw[:1<<15]], fds)
    conn.sendall(raw[sent:])
    return conn, conn.makefile('rb')

def _address():
    "Of the server of this process; starts it"
    if _server.get('pid')!=os.getpid():
        at = os.path.join(tempfile.mkdtemp(prefix='warm-', dir=HOME), 's')
        p = subprocess.Popen([sys.executable, __file__, 'serve', at], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        end = time.monotonic()+300
        while not os.path.exists(at):
            assert p.poll() is None and time.monotonic()<end, 'the server of warm programs did not start'
            time.sleep(.02)
        _server.update(pid=os.getpid(), at=at, process=p)
    return _server['at']

def _real(words):
    "The command of a real process"
    return [sys.executable, '-m', *words] if words[0]=='woofbench' else [sys.executable, *words]

class Program:
    "A program at work; what it writes is kept in files"
    def __init__(self, words, cwd=None, env=None, input=''):
        self.files = [tempfile.TemporaryFile() for _ in range(3)]
        self.files[0].write(input.encode())
        self.files[0].seek(0)
        self.args,self.returncode = [str(o) for o in words],None
        env = {str(k):str(v) for k,v in (os.environ if env is None else env).items()}
        if sys.platform!='linux':
            streams = dict(zip(('stdin','stdout','stderr'), self.files))
            self.process = subprocess.Popen(_real(self.args), cwd=cwd, env=env, **streams)
            self.pid,self.ended = self.process.pid,self.process.wait
        else: self._warm(cwd, env)
        self.waits = threading.Thread(target=self._wait, daemon=True)
        self.waits.start()

    def _warm(self, cwd, env):
        "Ask the server for it"
        fds = [o.fileno() for o in self.files]
        self.conn,self.said = _ask(_address(), self.args, str(cwd or os.getcwd()), env, fds)
        self.pid,self.ended = int(self.said.readline()),self._said

    def _said(self):
        "How it ended"
        code = int(self.said.readline() or -signal.SIGKILL)
        self.said.close()
        self.conn.close()
        return code

    def _wait(self): self.returncode = self.ended()

    def poll(self): return self.returncode
    def send_signal(self, sig):
        if self.returncode is None: os.kill(self.pid, sig)
    def kill(self): self.send_signal(signal.SIGKILL)

    def wait(self, timeout=None):
        self.waits.join(timeout)
        if self.waits.is_alive(): raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        "(output, errors)"
        try: self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        def text(f):
            f.seek(0)
            with f: return f.read().decode(errors='replace')
        self.files[0].close()
        return tuple(map(text, self.files[1:]))

def call(words, timeout=600, **kw):
    "Run a program to its end: what it gave"
    p = Program(words, **kw)
    out,err = p.communicate(timeout)
    return subprocess.CompletedProcess(p.args, p.returncode, out, err)

def python(code, *args, **kw): return call(['-c', code, *args], **kw)

def program(folder):
    "The path of a program that does what `woofbench` does, for a shell script; it is written to `folder`"
    path = Path(folder)/'warm-woofbench'
    linux = sys.platform=='linux'
    words = ['-I', '-S', __file__, 'ask', _address(), 'woofbench'] if linux else _real(['woofbench'])[1:]
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *words])} "$@"\n')
    path.chmod(0o755)
    return str(path)


def main(how, address, *words):
    if how=='serve':
        path = _forget_own(sys.path)
        asked,fds = _serve(address)
        _become(asked, fds, path)
        _end(lambda: _run(asked['words']))
    _,said = _ask(address, list(words), os.getcwd(), dict(os.environ), [0,1,2])
    said.readline()
    sys.exit(int(said.readline() or 137) % 256)

if __name__=='__main__': main(*sys.argv[1:])
