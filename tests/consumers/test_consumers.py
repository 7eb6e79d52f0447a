"""Projects that use sipws, as their authors would write them, from an installed tree and from the sources."""

import glob
import os
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ENV = os.environ
CMAKE = ENV["CMAKE"]
PJPROJECT = ENV["SIPWS_PJPROJECT"]
COMPILERS = [pair for pair in (("gcc", "g++"), ("clang", "clang++")) if all(map(shutil.which, pair))]


def run(*command, env=None):
    """Its output; fails with all that it said where it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=500, env={**ENV, **(env or {})}, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


class Consumers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="sipws-consumers-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = os.path.join(cls.folder, "prefix")
        run(CMAKE, "--install", ENV["SIPWS_BUILD"], "--prefix", os.path.join(cls.folder, "staged"))
        # Whoever installs may move the tree afterwards.
        os.rename(os.path.join(cls.folder, "staged"), cls.prefix)

    def project(self, name, compilers, *options):
        """Configures, builds and runs somebody's project."""
        build = os.path.join(self.folder, name)
        c, cxx = compilers
        run(CMAKE, "-S", os.path.join(HERE, "project"), "-B", build, f"-DCMAKE_C_COMPILER={c}", f"-DCMAKE_CXX_COMPILER={cxx}",
            "-DCMAKE_BUILD_TYPE=" + ENV["SIPWS_TYPE"], f"-DWITH_PJSIP={'ON' if PJPROJECT else 'OFF'}",
            f"-DPJPROJECT_DIR={PJPROJECT}", *options)
        run(CMAKE, "--build", build, "-j2")
        out = run("ctest", "--test-dir", build, "--output-on-failure")
        self.assertIn("100% tests passed", out)
        return build

    def test_find_package(self):
        for compilers in COMPILERS:
            with self.subTest(compilers[0]):
                build = self.project(f"find-{compilers[0]}", compilers, f"-DCMAKE_PREFIX_PATH={self.prefix}")
                self.assertEqual(self.needed(build, "c_usual"), [])

    def test_find_package_with_build_shared_libs(self):
        build = self.project("find-shared", COMPILERS[0], f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DBUILD_SHARED_LIBS=ON")
        self.assertEqual(self.needed(build, "c_usual"), ["libsipws.so.0"])
        self.assertEqual(self.needed(build, "c_static"), [])

    def test_find_package_says_why_there_is_no_pjsip(self):
        with self.assertRaisesRegex(AssertionError, "(?s)sipws::pjsip.*PJPROJECT_DIR"):
            self.project("find-none", COMPILERS[0], f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DWITH_PJSIP=ON",
                         f"-DPJPROJECT_DIR={self.folder}")

    def test_find_package_of_another_version_is_refused(self):
        script = os.path.join(self.folder, "CMakeLists.txt")
        with open(script, "w", encoding="utf-8") as file:
            file.write("cmake_minimum_required(VERSION 3.20)\nproject(x NONE)\nfind_package(sipws 9.0 REQUIRED)\n")
        with self.assertRaisesRegex(AssertionError, "9.0"):
            run(CMAKE, "-S", self.folder, "-B", os.path.join(self.folder, "other"), f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_add_subdirectory(self):
        self.project("subdirectory", COMPILERS[0], f"-DSIPWS_SUBDIRECTORY={ENV['SIPWS_SOURCE']}",
                     f"-DSIPWS_CARGO_TARGET_DIR={ENV['SIPWS_CARGO_TARGET_DIR']}")

    def test_each_example_stands_for_itself(self):
        names = ["c-callback", "cpp-bridge"] + (["c-softswitch", "pjsua-ws"] if PJPROJECT else [])
        for c, cxx in COMPILERS:
            for name in names:
                with self.subTest(name, compiler=c):
                    build = os.path.join(self.folder, f"{name}-{c}")
                    run(CMAKE, "-S", os.path.join(ENV["SIPWS_SOURCE"], "examples", name), "-B", build,
                        f"-DCMAKE_C_COMPILER={c}", f"-DCMAKE_CXX_COMPILER={cxx}", f"-DCMAKE_PREFIX_PATH={self.prefix}",
                        f"-DPJPROJECT_DIR={PJPROJECT}", "-DBUILD_SHARED_LIBS=ON")
                    run(CMAKE, "--build", build)

    def needed(self, build, program):
        """The libraries of sipws that a program loads."""
        lines = run("readelf", "-d", os.path.join(build, program)).splitlines()
        return [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line and "sipws" in line]

    def pkg_config(self, prefix, *words):
        path = [os.path.dirname(pc) for pc in glob.glob(f"{prefix}/lib/**/sipws.pc", recursive=True)]
        path += [f"{PJPROJECT}/lib/pkgconfig"] if PJPROJECT else []
        return run("pkg-config", *words, env={"PKG_CONFIG_PATH": ":".join(path)}).split()

    def compile(self, compilers, source, flags, libraries):
        """Compiles and runs one program."""
        cxx = source.endswith(".cpp")
        program = os.path.join(self.folder, "program")
        run(compilers[cxx], "-std=c++17" if cxx else "-std=gnu11", "-Wall", "-Wextra", *flags, os.path.join(HERE, source),
            "-o", program, *libraries)
        lib = os.path.dirname(glob.glob(f"{self.prefix}/lib/**/libsipws.so", recursive=True)[0])
        run(program, env={"LD_LIBRARY_PATH": lib})
        return self.needed(self.folder, "program")

    def test_pkg_config_shared(self):
        for compilers in COMPILERS:
            for source in ("consumer.c", "consumer.cpp"):
                with self.subTest(compilers[0], source=source):
                    flags = self.pkg_config(self.prefix, "--cflags", "sipws")
                    needed = self.compile(compilers, source, flags, self.pkg_config(self.prefix, "--libs", "sipws"))
                    self.assertEqual(needed, ["libsipws.so.0"])

    def without_shared(self):
        """The tree as it is where only the static libraries were installed."""
        tree = os.path.join(self.folder, "only-static")
        if not os.path.isdir(tree):
            shutil.copytree(self.prefix, tree, symlinks=True)
            for library in glob.glob(f"{tree}/lib/**/*.so*", recursive=True):
                os.remove(library)
        return tree

    def test_pkg_config_static(self):
        tree = self.without_shared()
        for compilers in COMPILERS:
            for source in ("consumer.c", "consumer.cpp"):
                with self.subTest(compilers[0], source=source):
                    words = self.pkg_config(tree, "--static", "--cflags", "--libs", "sipws")
                    self.assertEqual(self.compile(compilers, source, [], words), [])

    @unittest.skipUnless(PJPROJECT, "PJSIP is not there, or has no .pc file")
    def test_pkg_config_pjsip(self):
        words = self.pkg_config(self.prefix, "--static", "--cflags", "--libs", "sipws_pjsip")
        self.assertEqual(self.compile(COMPILERS[0], "consumer_pjsip.c", [], words), ["libsipws_pjsip.so.0"])
        words = self.pkg_config(self.without_shared(), "--static", "--cflags", "--libs", "sipws_pjsip")
        self.assertEqual(self.compile(COMPILERS[0], "consumer_pjsip.c", [], words), [])

    def test_nothing_installed_names_the_build_tree(self):
        for kind in ("*.pc", "*.cmake", "*.h", "*.hpp"):
            for path in glob.glob(f"{self.prefix}/**/{kind}", recursive=True):
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                self.assertNotIn(ENV["SIPWS_BUILD"], text, path)
                self.assertNotIn(ENV["SIPWS_SOURCE"], text, path)


if __name__ == "__main__":
    unittest.main()
