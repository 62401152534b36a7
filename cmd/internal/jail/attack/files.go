//go:build drill && amd64

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reading is after files and what they say.
func reading() []attempt {
	return []attempt{
		{"read the keeper's key", func(s *scene) error { return s.read(s.Key) }},
		{"read /etc/shadow", func(s *scene) error { return s.read("/etc/shadow") }},
		{"read /etc/passwd", func(s *scene) error { return s.read("/etc/passwd") }},
		{"read a file of its own", func(s *scene) error { return s.read(s.own("own.txt")) }},
		{"read by open(2)", func(s *scene) error { return call(unix.SYS_OPEN, s.text("/etc/passwd"), 0, 0) }},
		{"read by openat2(2)", func(s *scene) error { return call(unix.SYS_OPENAT2, here, s.text("/etc/passwd"), s.words(0, 0, 0), 24) }},
		{"list a folder", func(s *scene) error {
			fd, err := s.open("/", unix.O_RDONLY|unix.O_DIRECTORY)
			if err != nil {
				return err
			}
			return call(unix.SYS_GETDENTS64, fd, s.space(), 4096)
		}},
		{"read its own memory by /proc", func(s *scene) error { _, err := s.open("/proc/self/mem", unix.O_RDWR); return err }},
		{"read its brother's memory by /proc", func(s *scene) error {
			_, err := s.open(fmt.Sprintf("/proc/%d/mem", s.Brother), unix.O_RDONLY)
			return err
		}},
		{"read its brother's environment", func(s *scene) error { return s.read(fmt.Sprintf("/proc/%d/environ", s.Brother)) }},
		{"read a stranger's memory by /proc", func(s *scene) error {
			_, err := s.open(fmt.Sprintf("/proc/%d/mem", s.Stranger), unix.O_RDONLY)
			return err
		}},
		{"read its maps", func(s *scene) error { return s.read("/proc/self/maps") }},
		{"open its board again", func(s *scene) error {
			_, err := s.open(fmt.Sprintf("/proc/self/fd/%d", s.fd("board")), unix.O_RDWR)
			return err
		}},
		{"stat a file", func(s *scene) error { return call(unix.SYS_NEWFSTATAT, here, s.text("/etc/shadow"), s.space(), 0) }},
		{"statx a file", func(s *scene) error { return call(unix.SYS_STATX, here, s.text("/etc/shadow"), 0, 0x7ff, s.space()) }},
		{"stat by stat(2)", func(s *scene) error { return call(unix.SYS_STAT, s.text("/etc/shadow"), s.space()) }},
		{"ask for access to a file", func(s *scene) error { return call(unix.SYS_FACCESSAT, here, s.text("/etc/passwd"), 4) }},
		{"read a link", func(s *scene) error {
			return call(unix.SYS_READLINKAT, here, s.text("/proc/self/exe"), s.space(), 4096)
		}},
		{"read an attribute", func(s *scene) error { return call(unix.SYS_LISTXATTR, s.text(s.own("own.txt")), s.space(), 4096) }},
		{"size up a file system", func(s *scene) error { return call(unix.SYS_STATFS, s.text("/"), s.space()) }},
		{"watch a folder", func(s *scene) error {
			fd, err := result(unix.SYS_INOTIFY_INIT1, 0)
			if err != nil {
				return err
			}
			return call(unix.SYS_INOTIFY_ADD_WATCH, fd, s.text(s.Folder), unix.IN_CREATE)
		}},
		{"watch a file system", func(s *scene) error { return call(unix.SYS_FANOTIFY_INIT, 0, 0) }},
		{"make a handle of a file", func(s *scene) error {
			return call(unix.SYS_NAME_TO_HANDLE_AT, here, s.text("/etc/passwd"), s.words(128, 0), s.space(), 0)
		}},
		{"open a file by a handle", func(s *scene) error { return call(unix.SYS_OPEN_BY_HANDLE_AT, here, s.words(8|1<<32, 2, 0), 0) }},
		{"say where it is", func(s *scene) error { return call(unix.SYS_GETCWD, s.space(), 4096) }},
	}
}

// changing is after what there is in folders.
func changing() []attempt {
	return []attempt{
		{"make a file in /tmp", func(s *scene) error { return s.write("/tmp/sallyport-attack") }},
		{"make a file in its folder", func(s *scene) error { return s.write(s.own("new.txt")) }},
		{"make a file by creat(2)", func(s *scene) error { return call(unix.SYS_CREAT, s.text(s.own("new.txt")), 0o600) }},
		{"write a file of its own", func(s *scene) error { return s.write(s.own("own.txt")) }},
		{"empty a file of its own", func(s *scene) error { return call(unix.SYS_TRUNCATE, s.text(s.own("own.txt")), 0) }},
		{"make a folder", func(s *scene) error { return call(unix.SYS_MKDIRAT, here, s.text(s.own("new")), 0o700) }},
		{"make a pipe in a folder", func(s *scene) error {
			return call(unix.SYS_MKNODAT, here, s.text(s.own("pipe")), unix.S_IFIFO|0o600, 0)
		}},
		{"make a device", func(s *scene) error {
			return call(unix.SYS_MKNODAT, here, s.text(s.own("null")), unix.S_IFCHR|0o600, 0x103)
		}},
		{"make a link to a file", func(s *scene) error {
			return call(unix.SYS_SYMLINKAT, s.text("/etc/passwd"), here, s.text(s.own("link")))
		}},
		{"make another name of a file", func(s *scene) error {
			return call(unix.SYS_LINKAT, here, s.text(s.own("own.txt")), here, s.text(s.own("other.txt")), 0)
		}},
		{"rename the app's socket", func(s *scene) error {
			return call(unix.SYS_RENAMEAT2, here, s.text(s.own("app.sock")), here, s.text(s.own("old.sock")), 0)
		}},
		{"remove the app's socket", func(s *scene) error { return call(unix.SYS_UNLINKAT, here, s.text(s.own("app.sock")), 0) }},
		{"remove a folder", func(s *scene) error { return call(unix.SYS_UNLINKAT, here, s.text(s.own("empty")), unix.AT_REMOVEDIR) }},
		{"change the mode of a file", func(s *scene) error { return call(unix.SYS_FCHMODAT, here, s.text(s.own("own.txt")), 0o666) }},
		{"change the mode of a gift", func(s *scene) error { return call(unix.SYS_FCHMOD, uintptr(s.fd("board")), 0o666) }},
		{"change the owner of a file", func(s *scene) error {
			return call(unix.SYS_FCHOWNAT, here, s.text(s.own("own.txt")), ^uintptr(0), ^uintptr(0), 0)
		}},
		{"change the times of a file", func(s *scene) error { return call(unix.SYS_UTIMENSAT, here, s.text(s.own("own.txt")), 0, 0) }},
		{"set an attribute", func(s *scene) error {
			return call(unix.SYS_SETXATTR, s.text(s.own("own.txt")), s.text("user.x"), s.text("x"), 1, 0)
		}},
		{"lock a gift", func(s *scene) error { return call(unix.SYS_FLOCK, uintptr(s.fd("board")), unix.LOCK_EX|unix.LOCK_NB) }},
		{"resize the board", func(s *scene) error { return call(unix.SYS_FTRUNCATE, uintptr(s.fd("board")), 0) }},
		{"fill the board with room", func(s *scene) error { return call(unix.SYS_FALLOCATE, uintptr(s.fd("board")), 0, 0, 4096) }},
		{"change its folder", func(s *scene) error { return call(unix.SYS_CHDIR, s.text("/tmp")) }},
		{"change its umask", func(s *scene) error { return call(unix.SYS_UMASK, 0) }},
		{"write all disks", func(*scene) error { return call(unix.SYS_SYNCFS, 2) }},
	}
}

// mounting is after another root, or another view of it.
func mounting() []attempt {
	return []attempt{
		{"mount", func(s *scene) error {
			return call(unix.SYS_MOUNT, s.text("none"), s.text("/tmp"), s.text("tmpfs"), 0, 0)
		}},
		{"umount", func(s *scene) error { return call(unix.SYS_UMOUNT2, s.text("/tmp"), unix.MNT_DETACH) }},
		{"pivot_root", func(s *scene) error { return call(unix.SYS_PIVOT_ROOT, s.text("/"), s.text("/")) }},
		{"chroot", func(s *scene) error { return call(unix.SYS_CHROOT, s.text("/tmp")) }},
		{"open_tree", func(s *scene) error { return call(unix.SYS_OPEN_TREE, here, s.text("/"), unix.OPEN_TREE_CLONE) }},
		{"move_mount", func(s *scene) error { return call(unix.SYS_MOVE_MOUNT, here, s.text("/tmp"), here, s.text("/mnt"), 0) }},
		{"fsopen", func(s *scene) error { return call(unix.SYS_FSOPEN, s.text("tmpfs"), 0) }},
		{"fspick", func(s *scene) error { return call(unix.SYS_FSPICK, here, s.text("/"), 0) }},
		{"mount_setattr", func(s *scene) error {
			return call(unix.SYS_MOUNT_SETATTR, here, s.text("/"), 0, s.words(1, 0, 0, 0), 32)
		}},
		{"unshare a user namespace", func(*scene) error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER) }},
		{"unshare a mount namespace", func(*scene) error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWNS) }},
		{"unshare a network namespace", func(*scene) error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWNET) }},
		{"unshare descriptors", func(*scene) error { return call(unix.SYS_UNSHARE, unix.CLONE_FILES) }},
		{"setns", func(s *scene) error { return call(unix.SYS_SETNS, uintptr(s.fd("board")), 0) }},
	}
}
