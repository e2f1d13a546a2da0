"""Delays packets between network namespaces.

usage: delay.py DELAY_MS JITTER_MS NAMESPACE=ADDRESS...

Opens a TUN device `slow0` in each namespace and hands every IPv4 packet written to one of them to the device
of the namespace that has its destination address, DELAY_MS later, or up to JITTER_MS more. Packets that jitter
may overtake each other. Prints `up` when all devices are there. The devices, and the routes that lead to them,
vanish with this process.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
LONGEST_PACKET = 65536
# More packets than this on their way: the newest is lost, as on a full router.
LONGEST_QUEUE = 20000

libc = ctypes.CDLL(None, use_errno=True)


def enter(descriptor):
    if libc.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def open_tun(namespace):
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open("/var/run/netns/" + namespace, os.O_RDONLY)
    enter(there)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"slow0", IFF_TUN | IFF_NO_PI))
    enter(home)
    os.close(there)
    os.close(home)
    return tun


def main():
    delay, jitter = float(sys.argv[1]) / 1e3, float(sys.argv[2]) / 1e3
    by_address = {}
    for pair in sys.argv[3:]:
        namespace, address = pair.split("=")
        by_address[socket.inet_aton(address)] = open_tun(namespace)
    devices = list(by_address.values())
    print("up", flush=True)
    queue, number = [], 0
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for device in select.select(devices, [], [], wait)[0]:
            packet = os.read(device, LONGEST_PACKET)
            target = by_address.get(packet[16:20])
            if target is not None and len(queue) < LONGEST_QUEUE:
                number += 1
                due = time.monotonic() + delay + random.random() * jitter
                heapq.heappush(queue, (due, number, target, packet))
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, target, packet = heapq.heappop(queue)
            try:
                os.write(target, packet)
            except OSError:
                pass  # The device is down or full: the packet is lost.


main()
