#!/usr/bin/env python3
"""Measures pjsip-perf, PJSIP's own load generator, over our transport beside PJSIP's own TCP transport, in one run.

usage: run.py PJSIP_PERF [--rounds 5] [--count 60000] [--transports tcp,ws,wss]

PJSIP_PERF is pjsip-perf relinked with the transport (tests/peers-pjsip builds it). Each round runs every transport once, in
turn: a server and a client process, OPTIONS answered statefully, up to 1000 at a time. Printed are the medians of
transactions a second, of CPU time a transaction (both processes, all threads), and their ratios to TCP. Needs openssl
for wss.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def wait_for(port, deadline=10):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def certificate(folder):
    pem, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", pem],
        check=True, stderr=subprocess.DEVNULL)
    return pem, key


def measure(program, transport, count, folder):
    sip, web = free_port(), free_port()
    listens, tls, client = "listen = []\n", "", "listen = []\n"
    if transport != "tcp":
        listens = f'listen = [{{ url = "{transport}://127.0.0.1:{web}/" }}]\n'
    if transport == "wss":
        pem, key = certificate(folder)
        tls = f'[tls]\ncertificate = "{pem}"\nkey = "{key}"\n'
        client += f'[client]\nca = "{pem}"\n'
    configs = {"server": listens + tls + "[limits]\nrequests_per_second = 0\n", "client": client}
    environments = {}
    for name, text in configs.items():
        path = f"{folder}/{name}.toml"
        with open(path, "w") as file:
            file.write(text)
        environments[name] = dict(os.environ, SIPWS_CONFIG=path)
    common = ["--use-tcp"]
    port = sip if transport == "tcp" else web
    server = subprocess.Popen([program, f"--local-port={sip}", *common], env=environments["server"],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        before = cpu_seconds(server.pid)
        started = os.times()
        done = subprocess.run(
            [program, f"--local-port={free_port()}", *common, "--method=OPTIONS", f"--count={count}",
             f"sip:1@127.0.0.1:{port};transport={transport}"],
            env=environments["client"], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        ended = os.times()
        served = cpu_seconds(server.pid) - before
    finally:
        server.kill()
        server.wait()
    text = done.stdout + done.stderr
    answered = re.search(r"200 responses:\s+(\d+)", text)
    took = re.search(r"responses received in (\d+) ms", text)
    if not answered or int(answered[1]) != count or not took:
        sys.exit(f"{transport}: not all were answered:\n...{text[-2000:]}")
    asked = ended.children_user + ended.children_system - started.children_user - started.children_system
    return count / int(took[1]) * 1000, served / count * 1e6, asked / count * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=60000)
    parser.add_argument("--transports", default="tcp,ws,wss")
    options = parser.parse_args()
    transports = options.transports.split(",")
    figures = {t: [] for t in transports}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for transport in transports:
                figures[transport].append(measure(options.program, transport, options.count, folder))
    medians = {t: [statistics.median(column) for column in zip(*rows)] for t, rows in figures.items()}
    base = medians[transports[0]]
    print("| transport | transactions/s | server CPU us | client CPU us | tps ratio | CPU ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    for transport, (rate, served, asked) in medians.items():
        cpu = (served + asked) / (base[1] + base[2])
        print(f"| {transport} | {rate:.0f} | {served:.1f} | {asked:.1f} | {rate / base[0]:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
