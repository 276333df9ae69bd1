"""Confines the decoding process once its file is open.

Linux only: Landlock (kernel 5.13) forbids opening files; a seccomp filter (x86-64 and ARM64) programs, sockets, other
processes and written files. Each works without the other.
"""

import ctypes
import os
import platform
import struct
import sys

NOBODY = 65534

# prctl(2)
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 38, 22, 2

# Landlock (linux/landlock.h)
CREATE_RULESET, RESTRICT_SELF = 444, 446
VERSION_FLAG = 1
# Rights that can be restricted, by the interface version that introduced them.
FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
NET_RIGHTS_SINCE, NET_RIGHTS = 4, 0b11
SCOPES_SINCE, SCOPES = 6, 0b11

# seccomp (linux/seccomp.h, linux/filter.h, linux/audit.h)
LOAD, EQUAL, AT_LEAST, HAS_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF_0000, 0x8000_0000
REFUSE, UNKNOWN = 0x0005_0000 | 1, 0x0005_0000 | 38
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
CLONE_THREAD = 0x0001_0000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0x0040_0000
# The 32-bit interface of a 64-bit kernel has the same architecture and other numbers.
X32_NUMBERS = 0x4000_0000
#: Our libraries do not know newer calls.
NEWEST_CALL = 470

ARCHITECTURES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
# name: number on x86-64, number on ARM64 (None where it has no such call)
REFUSED = {
    # Other programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "setns": (308, 268), "unshare": (272, 97),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "sched_setaffinity": (203, 122), "setpriority": (141, 140),
    "sched_setattr": (314, 274), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    # Networks and messages
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # Changes of files
    "creat": (85, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "truncate": (76, 45), "ftruncate": (77, 46),
    "fallocate": (285, 47), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "memfd_create": (319, 279),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "splice": (275, 76), "tee": (276, 77),
    "vmsplice": (278, 75),
    # The system
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "bpf": (321, 280), "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "ioperm": (173, None),
    "iopl": (172, None), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "personality": (135, 92),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "fanotify_init": (300, 262), "lookup_dcookie": (212, 18),
    # Other users
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "setfsuid": (122, 151),
    "setfsgid": (123, 152), "capset": (126, 91),
}  # fmt: skip
# glibc tries these, and uses the older ones where they are unknown.
NOT_KNOWN = {"clone3": (435, 435), "openat2": (437, 437)}


def confine() -> list[str]:
    """Apply all available protections for good; return their names. Everything must be imported."""
    if not sys.platform.startswith("linux"):
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    held = []
    if os.geteuid() == 0 and become_nobody():
        held.append("own user")
    if libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return held
    if restrict_files(libc):
        held.append("Landlock")
    if filter_calls(libc):
        held.append("seccomp")
    return held


def available() -> list[str]:
    if not sys.platform.startswith("linux"):
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    found = ["Landlock"] if landlock_version(libc) > 0 else []
    has_filter = libc.prctl(SET_SECCOMP, FILTER_MODE, None, 0, 0) != 0 and ctypes.get_errno() == 14  # EFAULT
    return found + (["seccomp"] if has_filter and platform.machine() in ARCHITECTURES else [])


def become_nobody() -> bool:
    """Root could read and signal everything."""
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    return True


def landlock_version(libc: ctypes.CDLL) -> int:
    return int(libc.syscall(CREATE_RULESET, None, 0, VERSION_FLAG))


def restrict_files(libc: ctypes.CDLL) -> bool:
    version = landlock_version(libc)
    if version < 1:
        return False
    handled = sum(rights for since, rights in FILE_RIGHTS.items() if since <= version)
    attributes = struct.pack(
        "=QQQ", handled, NET_RIGHTS if version >= NET_RIGHTS_SINCE else 0, SCOPES if version >= SCOPES_SINCE else 0
    )
    # Older kernels refuse a structure with newer members.
    size = 24 if version >= SCOPES_SINCE else 16 if version >= NET_RIGHTS_SINCE else 8
    ruleset = libc.syscall(CREATE_RULESET, attributes[:size], size, 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def filter_calls(libc: ctypes.CDLL) -> bool:
    """Unneeded calls get EPERM; those of a foreign architecture kill."""
    known = ARCHITECTURES.get(platform.machine())
    if known is None or sys.maxsize < 2**32 or sys.byteorder != "little":
        return False
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions(*known, pid=os.getpid()))
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    return bool(libc.prctl(SET_SECCOMP, FILTER_MODE, head, 0, 0) == 0)


def instructions(architecture: int, column: int, *, pid: int) -> list[tuple[int, int, int, int]]:
    """Operation, jumps if true and false, operand."""
    code = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, 0, 1, X32_NUMBERS),
        (RETURN, 0, 0, KILL),
        (AT_LEAST, 0, 1, NEWEST_CALL),
        (RETURN, 0, 0, UNKNOWN),
    ]
    for answer, calls in ((REFUSE, REFUSED), (UNKNOWN, NOT_KNOWN)):
        for numbers in calls.values():
            number = numbers[column]
            if number is not None:
                code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]
    # Threads but no processes, reading files, and signals and limits for itself only.
    code += unless_bits((56, 220)[column], 0, CLONE_THREAD, if_set=ALLOW, if_not=REFUSE)
    code += unless_bits((257, 56)[column], 2, WRITING, if_set=REFUSE, if_not=ALLOW)
    if column == 0:
        code += unless_bits(2, 1, WRITING, if_set=REFUSE, if_not=ALLOW)
    code += only_for((62, 129)[column], pid)
    code += only_for((234, 131)[column], pid)
    code += only_for((302, 261)[column], 0)
    return [*code, (RETURN, 0, 0, ALLOW)]


def unless_bits(call: int, argument: int, bits: int, *, if_set: int, if_not: int) -> list[tuple[int, int, int, int]]:
    at = ARGUMENTS_AT + 8 * argument
    checks = [(LOAD, 0, 0, at), (HAS_BITS, 0, 1, bits), (RETURN, 0, 0, if_set), (RETURN, 0, 0, if_not)]
    return [(EQUAL, 0, len(checks), call), *checks]


def only_for(call: int, first_argument: int) -> list[tuple[int, int, int, int]]:
    checks = [
        (LOAD, 0, 0, ARGUMENTS_AT),
        (EQUAL, 0, 1, first_argument),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return [(EQUAL, 0, len(checks), call), *checks]
