"""The Debian package, made of the tested program: what is in it, its scripts, its unit. tools/deb-test installs and uses it."""

import gzip
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from world import ROOT, SLUICE

UNIT = ROOT / "packaging" / "debian" / "sluice.service"
EXPOSURE_MAX = 2.0  # of 10, as `systemd-analyze security` rates


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def unit_lines():
    return [line.strip() for line in UNIT.read_text().splitlines() if line.strip() and not line.startswith("#")]


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="sluice-deb-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.package = pathlib.Path(run(ROOT / "tools" / "deb", "--binary", SLUICE, cls.folder / "out").splitlines()[-1])
        cls.root, cls.control = cls.folder / "root", cls.folder / "control"
        run("dpkg-deb", "-x", cls.package, cls.root)
        run("dpkg-deb", "-e", cls.package, cls.control)

    def field(self, name):
        return run("dpkg-deb", "-f", self.package, name).strip()

    def test_says_what_it_is(self):
        version = run(SLUICE, "--version").split()[1]
        self.assertEqual(self.field("Version"), f"{version}-1")
        # Libraries come from what the program is linked with.
        for library in ("libc6", "libssl3", "libunbound8"):
            self.assertIn(library, self.field("Depends"))
        self.assertNotIn("${", self.field("Depends"))

    def test_has_everything_in_its_place(self):
        for file in ("usr/bin/sluice", "lib/systemd/system/sluice.service", "usr/share/man/man8/sluice.8.gz",
                     "usr/share/doc/sluice/copyright", "usr/share/doc/sluice/changelog.gz", "etc/sluice/smtp.ini",
                     "usr/include/sluice/plugin.h", "usr/include/sluice/plugin.hpp",
                     "usr/share/doc/sluice/examples/static_routes.c", "usr/share/doc/sluice/examples/javascript-plugins.conf"):
            self.assertTrue((self.root / file).is_file(), file)
        for folder in ("var/lib/sluice/queue", "var/lib/sluice/plugins", "var/log/sluice"):
            self.assertTrue((self.root / folder).is_dir(), folder)
        links = {name: os.readlink(self.root / "var/lib/sluice" / name) for name in ("config", "log", "run")}
        self.assertEqual(links, {"config": "/etc/sluice", "log": "../../log/sluice", "run": "/run/sluice"})
        for file in self.root.rglob("*"):
            if not file.is_symlink():
                self.assertEqual(file.stat().st_mode & 0o7022, 0, f"{file} can be written by others")

    def test_configuration_is_kept_and_safe(self):
        files = sorted(str(path.relative_to(self.root)) for path in (self.root / "etc").rglob("*") if path.is_file())
        self.assertEqual(sorted((self.control / "conffiles").read_text().split()), [f"/{file}" for file in files])
        instance = self.folder / "instance"
        instance.mkdir(exist_ok=True)
        (instance / "config").symlink_to(self.root / "etc/sluice")
        said = run(SLUICE, "check", instance)
        self.assertIn("the configuration is good", said)
        lines = (self.root / "etc/sluice/smtp.ini").read_text().splitlines()
        self.assertEqual([line for line in lines if line.startswith("listen")], ["listen=127.0.0.1:25"])
        allowed = (self.root / "etc/sluice/relay_acl_allow").read_text().splitlines()
        self.assertEqual([line for line in allowed if line and not line.startswith("#")], ["127.0.0.0/8", "::1"])
        # Nobody's name, nobody's password.
        self.assertFalse((self.root / "etc/sluice/me").exists())
        self.assertNotIn("holds a secret", said)

    def test_plugin_host_is_what_npm_would_pack(self):
        host = self.root / "usr/share/sluice/plugin-host"
        files = json.loads((ROOT / "plugin-host/package.json").read_text())["files"]
        self.assertEqual({path.name for path in host.iterdir()}, {"package.json", *files})
        for program in ("index.js", "try.js", "testing.js"):
            self.assertTrue((host / program).is_file(), program)

    def test_pages_link_to_what_is_there(self):
        pages = [path for path in (self.root / "usr/share/doc/sluice").rglob("*.md") if path.is_file()]
        self.assertGreater(len(pages), 20)
        for page in pages:
            text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
                if not target.startswith("https:"):
                    self.assertTrue((page.parent / target).exists(), f"{page}: {target}")
        named = [UNIT.read_text(), gzip.open(self.root / "usr/share/man/man8/sluice.8.gz", "rt").read()]
        for path in re.findall(r"/usr/share/doc/sluice/[\w./-]+", "\n".join(named)):
            self.assertTrue((self.root / path[1:]).exists(), path)

    def test_program_is_the_tested_one(self):
        self.assertEqual(run(self.root / "usr/bin/sluice", "--version"), run(SLUICE, "--version"))

    def test_scripts_are_sound(self):
        for script in ("postinst", "prerm", "postrm"):
            text = (self.control / script).read_text()
            run("dash", "-n", self.control / script)
            self.assertTrue(text.startswith("#!/bin/sh\nset -e\n"), script)
            self.assertNotIn("#DEBHELPER#", text)
        self.assertIn("deb-systemd-invoke", (self.control / "prerm").read_text())
        # No script throws mail away.
        for script in ("postinst", "prerm", "postrm", "preinst"):
            if (self.control / script).exists():
                for line in (self.control / script).read_text().splitlines():
                    if re.search(r"\brm\b", line):
                        self.assertNotIn("/var/lib/sluice", line)

    def test_manual_page_names_every_command(self):
        page = gzip.open(self.root / "usr/share/man/man8/sluice.8.gz", "rt").read()
        commands = re.findall(r"^  ([a-z]+)  ", run(SLUICE, "--help").split("Subcommands:")[1], re.M)
        self.assertGreater(len(commands), 8)
        for command in commands:
            self.assertIn(f".SS sluice {command}", page)
        self.assertNotRegex(page, "@[A-Z]+@")


class Source(unittest.TestCase):
    def test_is_built_with_what_the_project_is_built_with(self):
        libraries = re.search(r"^# Libraries\n(.*?)^#", (ROOT / "packages.txt").read_text(), re.M | re.S)[1].split()
        self.assertGreater(len(libraries), 10)
        depends = re.search(r"^Build-Depends: (.*?)\n\n", (ROOT / "packaging/debian/control").read_text(), re.M | re.S)[1]
        missing = set(libraries) - set(re.split(r"[,\s]+", depends))
        self.assertFalse(missing)


class Unit(unittest.TestCase):
    def assert_exposure(self, unit):
        said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
        exposure = float(re.search(r"Overall exposure level for sluice.service: ([0-9.]+)", said)[1])
        self.assertLess(exposure, EXPOSURE_MAX, said)

    def test_PRIV_1_exposure(self):
        self.assert_exposure(UNIT)

    def test_PRIV_1_exposure_with_javascript_plugins(self):
        with tempfile.TemporaryDirectory() as folder:
            both = pathlib.Path(folder) / UNIT.name
            both.write_text(UNIT.read_text() + (ROOT / "packaging" / "javascript-plugins.conf").read_text())
            self.assert_exposure(both)

    def test_PRIV_1_names_what_is_asked_for(self):
        lines = unit_lines()
        for line in (
                "User=sluice", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE",
                "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "PrivateDevices=yes",
                "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
                "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "SystemCallFilter=@system-service", "RestrictNamespaces=yes",
                "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "UMask=0077", "Type=notify", "LimitCORE=0",
                "Restart=on-failure"):
            self.assertIn(line, lines)
        for key in ("MemoryMax=", "LimitNOFILE=", "WatchdogSec=", "RestartSec=", "ExecReload="):
            self.assertTrue([line for line in lines if line.startswith(key)], key)

    def test_systemd_understands_every_line(self):
        with tempfile.TemporaryDirectory() as folder:
            # The program and its manual page are not installed here.
            text = re.sub(r"^Documentation=.*\n", "", UNIT.read_text(), flags=re.M).replace("/usr/bin/sluice", "/bin/true")
            unit = pathlib.Path(folder) / "sluice.service"
            unit.write_text(text)
            done = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
            ours = [line for line in (done.stdout + done.stderr).splitlines() if "sluice.service" in line]
            self.assertEqual(ours, [])


if __name__ == "__main__":
    unittest.main()
