"""Where plugins come from in tests: the packages of the plugin host and unmodified plugins, installed once by npm."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import unittest

from world import ROOT

HOST = ROOT / "plugin-host"
# Unmodified, as npm gives them.
PLUGINS = {
    "Haraka": "3.3.4", "haraka-plugin-accounting-files": "0.7.0", "haraka-plugin-dkim": "1.3.1", "haraka-plugin-limit": "1.3.2",
    "haraka-plugin-qmail-deliverable": "1.4.0", "haraka-plugin-recipient-routes": "1.4.0", "haraka-plugin-redis": "2.1.0",
    "haraka-plugin-relay": "1.0.2",
    # The last one for the addresses that Haraka had before 3.2.
    "limit-of-old": "npm:haraka-plugin-limit@1.2.7",
    # What accounting-files was written for; newer ones are no CommonJS.
    "dateformat": "4.6.3",
}
# What one test needs besides, in a folder of its own.
TYPESCRIPT = {"typescript": "5.4.5"}


def node_modules(also=None):
    """The folder with all of it, and packages that only one test needs; skips the test where there is no Node, no npm or no registry."""
    if not shutil.which("node"):
        raise unittest.SkipTest("node is not installed")
    wanted = json.loads((HOST / "package.json").read_text())["dependencies"] | PLUGINS | (also or {})
    package = json.dumps({"name": "sluice-plugin-tests", "private": True, "dependencies": wanted}, sort_keys=True)
    folder = ROOT / "build" / "node" / hashlib.sha256(package.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists():
            if not shutil.which("npm"):
                raise unittest.SkipTest("npm is not installed")
            (folder / "package.json").write_text(package)
            npm = subprocess.run(
                ["npm", "install", "--omit=optional", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=folder, capture_output=True, text=True, check=False)
            if npm.returncode != 0:
                raise unittest.SkipTest("npm install failed: " + npm.stderr.strip()[-300:])
            done.write_text("")
    return folder / "node_modules"


def dkim_key(config, domain="src.test"):
    """A key for haraka-plugin-dkim in the folder `config`, with the selector may2026; returns the record that DNS would have."""
    folder = config / "dkim" / domain
    folder.mkdir(parents=True)
    key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    public = subprocess.run(["openssl", "rsa", "-pubout"], input=key, capture_output=True, check=True).stdout
    (folder / "private").write_bytes(key)
    (folder / "selector").write_text("may2026\n")
    return b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])


class PluginEngine:
    """Adds plugins to an engine of the world."""

    def __init__(self, engine, also=None):
        self.engine = engine
        self.modules = node_modules(also)
        engine.set("plugin_host.ini", folder=HOST)
        engine.environment["NODE_PATH"] = str(self.modules)

    def add(self, name, source=None):
        """A legacy plugin with this source; without one, the npm package."""
        if source is None:
            for package in self.modules.glob("haraka-plugin-*"):  # those that it inherits from as well
                self.install(package.name)
        else:
            file = self.engine.directory / "plugins" / f"{name}.js"
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)
        self.engine.files["plugins"] += f"{name}\n"
        return self

    def install(self, package, name=None):
        """The package in the instance, under its own name or another one."""
        place = self.engine.directory / "node_modules" / (name or package)
        place.parent.mkdir(exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(self.modules / package)
        return self

    def with_haraka(self):
        """The Haraka package in the instance, with the plugins that come with it."""
        return self.install("Haraka")

    def bundled(self, name):
        """One of those."""
        self.engine.files["plugins"] += f"{name}\n"
        return self

    def start(self):
        self.engine.start()
        return self

    def host(self):
        """The process id of the plugin host; nothing while there is none."""
        for child in ROOT.__class__("/proc").glob("[0-9]*"):
            try:
                # "pid (name) state ppid"; the name may contain blanks.
                stat = (child / "stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == self.engine.process.pid:
                    return int(child.name)
            except (OSError, ValueError):
                continue
        return None
