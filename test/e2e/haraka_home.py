"""Haraka's queue directories: made by a real Haraka from npm, or written here in every form that its versions had."""

import importlib.util
import json
import os
import pathlib
import struct
import sys
import types
import unittest

from world import ROOT


def bench_peers():
    """bench/peers.py, which knows how Haraka is installed and started."""
    if "bench_peers" not in sys.modules:
        sys.path.append(str(ROOT / "bench"))
        spec = importlib.util.spec_from_file_location("bench_peers", ROOT / "bench" / "peers.py")
        sys.modules["bench_peers"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["bench_peers"])
    return sys.modules["bench_peers"]


def prepare_haraka():
    """Installs Haraka once; skips the test where that is not possible."""
    peers = bench_peers()
    cache = os.environ.get("XDG_CACHE_HOME", str(pathlib.Path.home() / ".cache"))
    try:
        peers.Haraka.prepare(types.SimpleNamespace(cache=f"{cache}/sluice-bench"))
    except peers.Unavailable as error:
        raise unittest.SkipTest(f"Haraka: {error}") from None
    return peers.Haraka


# Everybody may relay; mail goes to where the file `sink` of the configuration says. `delivered` keeps accounts.
ROUTE = """
const fs = require('fs')
const path = require('path')
exports.register = function () {
    const [address, port] = this.config.get('sink').split(':')
    this.sink = { exchange: address, port: Number(port), priority: 0 }
}
exports.hook_connect = function (next, connection) { connection.relaying = true; next() }
exports.hook_rcpt = function (next) { next(OK) }
exports.hook_queue_outbound = function (next, connection) {
    connection.transaction.notes.accounted = { to: connection.transaction.rcpt_to.length }
    next()
}
exports.hook_get_mx = function (next) { next(OK, this.sink) }
"""
ACCOUNTS = """
const fs = require('fs')
const path = require('path')
exports.hook_delivered = function (next, hmail) {
    const file = path.join(process.env.HARAKA || '.', 'accounts')
    fs.appendFileSync(file, JSON.stringify({ uuid: hmail.todo.uuid, notes: hmail.todo.notes, fails: hmail.num_failures,
        seen: hmail.todo.rcpt_to.map((one) => one.seen) }) + '\\n')
    next()
}
"""


class RealHaraka:
    """A Haraka on `folder`, whose only destination is `sink`, an address and port where perhaps nobody listens. `furnish` may add to
    the folder before it starts."""

    def __init__(self, folder, sink, intervals="1h,2h,3h", furnish=lambda folder: None):
        haraka = prepare_haraka()

        class Instance(haraka):
            def configure(self):
                super().configure()
                self.write("config/plugins", "route\naccounts\n")
                self.write("config/sink", f"{sink}\n")
                self.write("config/outbound.ini", f"enable_tls=false\ntemp_fail_intervals={intervals}\n")
                self.write("plugins/route.js", ROUTE)
                self.write("plugins/accounts.js", ACCOUNTS)
                furnish(pathlib.Path(self.folder))

        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.queue = self.folder / "queue"
        self.server = Instance(self.folder, int(sink.rpartition(":")[2]), True, {"HARAKA": str(self.folder)})

    @property
    def port(self):
        return self.server.port

    def names(self):
        return sorted(name for name in os.listdir(self.queue) if name[0].isdigit() and "_" in name)

    def stop(self):
        self.server.stop()


class Instance:
    """Starts a Haraka again on a folder that has one's configuration."""

    def __init__(self, folder, sink):
        haraka = prepare_haraka()
        (folder / "config" / "sink").write_text(f"{sink}\n")

        class Again(haraka):
            def configure(self):
                self.write("config/smtp.ini", f"listen=127.0.0.1:{self.port}\nnodes=0\n")

        self.server = Again(folder, int(sink.rpartition(":")[2]), True, {})

    def stop(self):
        self.server.stop()


def address(mailbox, generation="3.2", **more):
    """An address object as a generation of Haraka writes it."""
    user, _, host = mailbox.rpartition("@")
    if generation == "text":
        return f"<{mailbox}>"
    if not mailbox:
        return {"original": "<>", "original_host": "", "host": "", "user": ""} if generation == "3.2" else \
            {"original": "<>", "host": None, "user": None}
    known = {"original": f"<{mailbox}>", "host": host.lower(), "user": user}
    if generation != "2.0":
        known["original_host"] = host
    return {**known, **more}


def queue_file(to, content, sender="a@src.test", generation="3.2", notes=None, uuid="", queue_time=None, indent="\t", domain=None,
               more=None):
    """The octets of a queue file; `content` in CRLF lines without stuffed dots; `more`: what plugins noted on recipients."""
    todo = {"queue_time": queue_time, "domain": domain or to[0].rpartition("@")[2].lower(),
            "rcpt_to": [address(one, generation, **(more or {})) for one in to], "mail_from": address(sender, generation), "notes": notes or {},
            "uuid": uuid, "force_tls": False}
    if queue_time is None:
        del todo["queue_time"]
    text = ("\n" + json.dumps(todo, indent=indent, ensure_ascii=False) + "\n").encode()
    lines = content.split(b"\r\n")
    stuffed = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)
    return struct.pack(">I", len(text)) + text + stuffed


def contents_of(octets):
    """The todo of a queue file and its message as a receiver gets it."""
    length = struct.unpack(">I", octets[:4])[0]
    lines = octets[4 + length:].split(b"\r\n")
    return json.loads(octets[4:4 + length]), b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def name_of(number, arrival, due, attempts=0, pid=999_999_999, host="elsewhere"):
    return f"{arrival}_{due}_{attempts}_{pid}_u{number:05d}_{number % 10_000}_{host}"
