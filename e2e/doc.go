// Package e2e tests sallyport from outside: the real binaries, real apps on
// unix sockets, and real clients.
//
// A story that is commands and their outcome is a file in cases, which
// script_test.go reads. A story that has to look at processes, memory or time
// is a Go test here. The rules that the source itself must keep (imports,
// sizes, no sleeping in tests) are in imports_test.go and rules_test.go.
// Compare has one job done with three proxies; it is tried by hand.
//
// SALLYPORT_BIN names a folder with the binaries to test; without it they are
// built. What needs root or an app that is not installed is skipped, and says
// so; `make test` installs the apps when it may.
//
// # Ways of starting
//
// The discussions from which this project began ask of each way of starting a server what it
// is good for. What they ask, by number, how anybody sees the answer, and the answer; Test is
// `go test -run`, W a core's pid, M that of `sallyport run`, C the configuration.
//
//	 1  ps -eo uid,pid,args | grep sallyport   no line of uid 0 (TestPrivileges)
//	 2  strace -f -p M -e trace=%network       under load: getsockopt(SO_ACCEPTCONN), each second; nothing else
//	 3  grep -E 'Uid|Gid|Groups' /proc/W/status
//	                                           four equal ids, no group (TestPrivileges)
//	 4  sudo bin/sallyport-core --gifts x      exit code 1, "jail: core: identity: uid is 0"
//	 5  sallyport status --json -c C           one process for each of workers (TestQueue)
//	 6  TestPlainUser, TestStartModes/plain    200 from ports above 1023; the log says what one user means
//	 7  ss -ltnp                               lines of sallyport alone: apps are on unix sockets (TestLayouts)
//	 8  TestStartModes/file                    80 and 443 by setcap; getpcaps W is empty; a warning
//	 9  getcap bin/sallyport                   nothing
//	10  SELinux                                not covered: no policy is shipped, and none was tried
//	11  go version -m bin/sallyport            CGO_ENABLED=0
//	12  go test ./e2e/attack                   3 of 263 attempts succeed, which SECURITY.md names
//	13  strace -f -e execve,access bin/sallyport check -c C
//	                                           no folder of PATH is looked at
//	14  TestLogFile                            a folder of root's, from which the core is kept
//	15  TestLogSyslog                          datagrams on a unix socket and over UDP
//	16  TestMatrix                             files: landlock and the filter, each alone; an empty root is to come
//	17  TestMemory, TestMatrix                 no key in a core's memory, none to open
//	18  sallyport check -c C, TestUnreachable  names the folder, its mode and the fix
//	19  TestStartModes/passed_sockets,         200, from processes without a network
//	    TestStartModes/network_namespace       200, in the network that root made
//	20  TestStartModes/user_namespace          200, with users below root; TestOneUserNamespace says why not without
//	21  TestPrivileges, TestKeeperFiles        a key of root's, 0600: opened by boot for the keeper alone
//	22  TestPlainUser                          a key of the starter's; "jail incomplete" says the danger
//	23  TestLooseKey                           exit code 1, chmod u=rw,g=,o= FILE
//	24  TestMemory                             0 of the forms of three keys in W, all of them in the keeper
//	25  TestMatrix, "read the keeper's key"    fails; no path of a request is one of a file
//	26  sallyport privs -c C                   the sets of every process, whatever the start had
//	27  TestMatrix, "kill ..."                 fails, for the parent too
//	28  static files                           not built
//	29  TestSystemdUser                        the unit for users: 200 on 8080 and 8443
//	30  ss -ltnp                               M and each W on one socket
//	31  TestStartModes/plain                   writes nothing but its control socket and, with its own CA, its state
//	32  TestStartModes/behind                  308 to https://moved.test/, without :8443
//	33  TestOpenFiles, TestPlan                user, workers, max_open_files
//	34  TestOpenFiles                          soft limit raised to the hard one; "few open files allowed" below 4096
//	35  sallyport privs --json -c C            every set of every process
//	36  TestStartModes/unprivileged            80 and 443 as a user, where the sysctl says 80
//	37  systemd-sysusers conf/systemd/sallyport.sysusers
//	                                           two users with nologin (TestSystemd)
//	38  e2e/fuzz                               what comes from cores is one byte; what goes to the keeper is fuzzed (keywire)
//	39  TestSystemd/sallyport-ambient          no process of root's
//	40  TestSystemd, TestLogFile               Type=notify; pid_file when it is asked for
//	41  TestSystemd                            the suite passes under all of that
//	42  TestUnitExposure                       2.3, 1.4 and 0.8
//	43  sallyport privs --assert -c C          exit code 3 when a process may do more than it should
//	44  TestUnitsVerified                      no unknown directive, with systemd 252; older ones were not tried
//	45  TestSystemd                            one line, FILE:LINE, hint, exit code 1, no further start
//
// "To come" and "not built" are issues of their own.
package e2e
