// Package conf turns the text of a configuration into a [Plan], what will run.
//
//	text -> tree -> checked tree -> Plan
//	    grow    check          resolve
//
// A tree is TOML with lines, whatever its keys mean (tree.go). The check
// compares it with the table of keys: unknown ones, types, bounds, parts that
// are not built (keys.go, check.go). The planner resolves what is left: names
// to indexes, accounts to numbers, defaults to values (planner.go and the files
// that are named after the tables). All three go on after a mistake, so that an
// operator sees every mistake at once. What does not stand in the file is an
// argument, [Surroundings].
//
// Serve makes the tree of its arguments instead of a file's (serve.go). How an app
// server is told of its socket and whose an app's processes are is known here too
// (command.go, appuser.go).
//
// What is not here: whether a socket can be reached, an address bound or a key
// parsed. Those are facts of a moment, and belong to those who act on them.
//
// # Keys
//
// Times are Go's durations with the units ms, s, m and h, in texts: "1m30s".
// Sizes are whole numbers of bytes, or texts with KiB, MiB or GiB. 0, in a text
// or not, switches a limit off. "texts" is a list of texts, or one without
// brackets. Paths are relative to the file, those of sockets absolute.
//
// A key that is "not yet" belongs to a part that is not built. "accepted" and
// "noticed" values are taken, the latter with a line at each start, because the
// default asks for the same; others are refused, because something else than
// what they ask for would happen. off is false, 0 or "0s".
//
//	KEY                             TAKES     DEFAULT     STATE
//	user                            text      -           built
//	keeper_user                     text      -           built
//	registrar_user                  text      -           built
//	workers                         number    0           built
//	sandbox                         choice    full        built
//	state                           text      -           built
//	volatile_state                  flag      false       built
//	control                         text      -           built
//	pid_file                        text      -           built
//	max_open_files                  number    0           built
//	trusted_proxies                 texts     -           built
//	drain                           table     -           built
//	drain.requests                  duration  30s         built
//	drain.upgrades                  duration  1h          built
//
//	listen                          table     -           built
//	listen.http                     texts     :80         built
//	listen.https                    texts     :443        built
//	listen.h2c                      flag      false       built
//	listen.h3                       flag      true        built
//	listen.advertise_port           number    -           built
//	listen.proxy_protocol           flag      false       built
//
//	log                             table     -           built
//	log.access                      flag      true        built
//	log.target                      text      stderr      built
//	log.level                       choice    info        built
//
//	limits                          table     -           built
//	limits.head                     size      32KiB       built
//	limits.fields                   number    100         built
//	limits.line                     size      8190        built
//	limits.head_time                duration  30s         built
//	limits.body_idle                duration  30s         built
//	limits.body_rate                size      512         built
//	limits.write_idle               duration  60s         built
//	limits.keepalive_idle           duration  75s         built
//	limits.requests_per_connection  number    0           built
//	limits.streams                  number    100         built
//	limits.stream_resets            number    400         built
//	limits.control_frames           number    2000        built
//	limits.connections_per_address  number    0           built
//	limits.rate                     number    0           built
//
//	spool                           table     -           built
//	spool.memory                    size      256MiB      built
//	spool.folder                    text      -           built
//	spool.disk                      size      4GiB        built
//	spool.per_app                   share     50%         built
//
//	tls                             table     -           built
//	tls.email                       text      -           built
//	tls.ca                          text      -           built
//	tls.test_ca                     text      -           built
//	tls.ca_root                     text      -           built
//	tls.profile                     text      -           built
//	tls.eab                         table     -           built
//	tls.eab.id                      text      -           built
//	tls.eab.key                     text      -           built
//	tls.min                         choice    1.2         built
//
//	site                            tables    -           built
//	site.host                       texts     -           built
//	site.tls                        tls       -           built
//	site.tls.cert                   text      -           built
//	site.tls.key                    text      -           built
//	site.redirect                   flag      true        built
//	site.hsts                       duration  0s          built
//	site.hsts_subdomains            flag      false       built
//	site.clients                    table     -           built
//	site.clients.ca                 text      -           built
//	site.clients.mode               choice    require     built
//	site.app                        text      -           built
//	site.route                      tables    -           built
//	site.route.path                 text      -           built
//	site.route.app                  text      -           built
//	site.route.prefix               text      -           built
//	site.route.buffer               flag      true        built
//	site.route.files                text      -           not yet: refused
//
//	app                             named     -           built
//	app.*                           table     -           built
//	app.*.socket                    texts     -           built
//	app.*.protocol                  choice    h1          built
//	app.*.max_inflight              number    0           built
//	app.*.queue                     table     -           built
//	app.*.queue.len                 number    100         built
//	app.*.queue.time                duration  30s         built
//	app.*.hold                      duration  15s         built
//	app.*.retries                   number    1           built
//	app.*.timeout                   table     -           built
//	app.*.timeout.connect           duration  1s          built
//	app.*.timeout.first_byte        duration  60s         built
//	app.*.timeout.idle              duration  60s         built
//	app.*.keepalive                 number    0           built
//	app.*.buffer                    flag      true        built
//	app.*.max_body                  size      64MiB       built
//	app.*.expect_user               text      -           not yet: refused
//	app.*.deny_root_app             flag      false       not yet: off noticed, else refused
//	app.*.health                    table     -           built
//	app.*.health.path               text      /up         built
//	app.*.health.every              duration  10s         built
//	app.*.command                   texts     -           not yet: refused
//	app.*.dir                       text      -           not yet: refused
//	app.*.user                      text      -           not yet: refused
//
// Where the default is "-":
//
//   - user, keeper_user, registrar_user: "name", "1000", either with ":group". Without
//     them the accounts sallyport, sallyport-keeper and sallyport-registrar, without those the
//     ids 60578 to 60580, unless somebody has them. Without root there is one user, the starter.
//   - control: HASH.sock in the first of $RUNTIME_DIRECTORY, /run/sallyport for
//     root, $XDG_RUNTIME_DIR/sallyport; HASH is 16 hexadecimal digits of the
//     SHA-256 of the absolute path of the file.
//   - state: $STATE_DIRECTORY, /var/lib/sallyport for root, $XDG_STATE_HOME/sallyport,
//     ~/.local/state/sallyport; without any, the internal CA is in memory.
//   - pid_file: none; a supervisor needs none. Boot writes it, and it is removed at the end
//     where the core's user may change its folder.
//   - trusted_proxies: nobody. Addresses, networks, or "unix:" for whoever
//     connects to a unix listener.
//   - listen.proxy_protocol, when true, is for every address of http and https: all
//     connections must come from trusted_proxies and begin with a PROXY header,
//     version 1 or 2, before TLS. Others are closed.
//   - listen.advertise_port: the port of the first https address; 443 where that is no port.
//   - listen.h2c, when true, lets clients of the addresses of http begin with HTTP/2, without
//     a word before ("prior knowledge", RFC 9113, section 3.3). Over TLS it is offered always.
//   - listen.h3 is UDP beside the addresses of https, as far as these are TCP, and not with
//     proxy_protocol. Answers over TLS say so (Alt-Svc) with advertise_port. An address that is
//     passed needs a UDP socket that is passed too (ListenDatagram=), which is not written: it is
//     found by its address. One core reads it, and after a reload new clients stay with
//     TCP until the last exchange that an older core has over HTTP/3 is over.
//   - limits.streams, stream_resets and control_frames are for one connection of HTTP/2 or 3:
//     requests at a time; streams that a client resets, and frames that carry neither a
//     request nor a body, within 10 s. Who has more of the latter two is disconnected.
//   - limits.body_rate is bytes in a second of waiting for the client, averaged over
//     the last twice limits.body_idle; over a minute where that is 0.
//   - limits.connections_per_address and limits.rate, which is requests in a second (as
//     many may come at once), are of one client, over all cores; an IPv6 address stands for
//     its /64. trusted_proxies are not limited, but those that they name are: in
//     X-Forwarded-For for the rate, in a PROXY header for both.
//   - spool.folder: none, bodies are in memory. spool.memory is without a folder,
//     spool.disk with one; spool.per_app is a size, or a share of whichever is used.
//   - site.host and app.*.socket have to be there, and so has site.app unless
//     there are routes. site.app is the name of an app, or "unix:/path".
//   - site.tls: a table of cert and key, "internal" or "off"; "off" where https = [].
//     Otherwise "internal" where all hosts are such that no public CA issues
//     certificates for them: addresses, "*", names of one label, and those below
//     localhost, local, internal and home.arpa. Otherwise "acme": each host has a
//     certificate of its own from tls.ca, but for those hosts, which share an internal one.
//     Whoever does not write tls agrees to the terms of that CA.
//   - tls.ca: the directory of Let's Encrypt, and tls.test_ca that of its staging
//     environment, which is tried first after a failure; another tls.ca has no tls.test_ca.
//     tls.ca_root is what the CA's own server is trusted by, in the place of the system's roots.
//     tls.eab is an account that the CA has given out elsewhere: its id, and a file with
//     its key, as the CA shows it, in base64url.
//   - site.hsts is for how long a browser is to ask for the site over TLS alone, by
//     Strict-Transport-Security (RFC 6797), with site.hsts_subdomains for all names below its
//     hosts too; "0s" says nothing. It is in answers over TLS, and an app's own goes before.
//   - site.clients asks clients for a certificate that a CA in the file ca has issued. With
//     mode = "require" whoever has none does not get in; with "optional" the app
//     may decide. It is told by Client-Cert (RFC 9440), the certificate in base64 between
//     colons, and X-Client-Cert-Subject, its subject as RFC 4514 writes it; both are missing where there
//     is no certificate, and never the client's own. Nor is the site reached by a connection
//     that was made for another, or without TLS: that is answered 421, or sent to https.
//   - volatile_state lets certificates from a CA be obtained where state is lost at the next
//     start: in memory, or on a file system that is.
//   - site.route.path: "/live/*" is /live and all below it, "/live" itself alone.
//
// What an app can take, over all cores together:
//
//   - max_inflight is for each socket. Those that are too many wait in the queue of the
//     app, first in, first out; so do those for whom the app's own backlog is full.
//     WebSockets count for as long as they live.
//   - queue.len bounds who waits, for a slot or a socket; one more is answered 503 at
//     once, and so is who has waited for queue.time. With 0 nobody waits, and hold has
//     no effect.
//   - hold is for a socket that is not there or refuses: requests of any method wait for
//     it, as nothing of them was sent; then the answer is 502.
//
// What an app speaks:
//
//   - protocol = "h2c" is HTTP/2 without TLS and without a word before ("prior knowledge", RFC
//     9113, section 3.3), as gRPC needs it: many requests on one connection, trailers both
//     ways, and resets that reach the other side. keepalive is for "h1" alone: a connection of
//     HTTP/2 is kept for 10 s. Bodies of gRPC are never buffered, whatever the route says.
//     A call whose sides are silent for long wants more of timeout.idle, and of limits.body_idle.
//   - WebSockets go to an app of h2c that says that it takes them (RFC 8441); from another one
//     they are answered 501.
//
// Members that fail:
//
//   - A socket that is not there or refuses is left alone for a while, growing from 250 ms
//     to 2 s, while the app has others; see package upstream.
//   - health, which is off unless the table is written, asks each socket for path: a GET
//     with "User-Agent: sallyport", on a connection of its own, once per every over all
//     cores together. 2xx and 3xx are well, as nginx and HAProxy have it: a redirect to
//     https is an answer of an app that lives. Anything else, and no answer within every
//     or 5 s, leaves the socket out until a check goes well, unless it would be the last.
//   - Host is the first host, in the order of the file, of a site that leads to the app and
//     is no pattern, for frameworks refuse hosts that they do not know (ALLOWED_HOSTS of
//     Django, config.hosts of Rails); "localhost" where there is none.
//   - A check is a request among the max_inflight. A socket that has no slot free is busy,
//     and its check is skipped, as what is busy lives; a hung one is for timeout.first_byte.
//
// Where the log goes, and what else belongs to the process:
//
//   - log.target is "stderr", the path of a file, "unix:/dev/log", or "udp:192.0.2.1:514" for
//     a syslog daemon; names are not looked up. Boot opens it, and a process that has nothing
//     but it and the lines of the others writes there. What is wrong before that, and what
//     is wrong with the target, is said on stderr.
//   - A file is made with mode 0640, in a folder that the core may not write to. On SIGUSR1
//     it is opened anew, by the user of the core: what renames it has to make the new one
//     (logrotate: create 0640 sallyport adm).
//   - Lines for a syslog daemon are of facility daemon, with the severity of their level: on
//     a unix socket as syslog(3) writes them, over UDP as RFC 5424 says.
//   - max_open_files is the limit of each process, RLIMIT_NOFILE; 0 leaves the hard limit of
//     the start. The soft one is always raised to it. A client takes a descriptor, and its
//     request another one.
//
// And where the default depends: workers = 0 is one for every two processors that the
// machine or the cgroup gives, and a core runs on one; https is not bound while no
// site has tls; limits.line is at most limits.head; site.redirect is true only
// where the site has tls and there is an http address;
// site.route.buffer is the app's.
//
// # Decisions
//
// 2026-11-25. Only go-toml's expression parser is used, package unstable. The
// decoder stops at the first mistake and forgets the lines of values. Duplicate
// keys and tables are found by the tree.
//
// 2026-11-25. Defaults stand in the table of keys as text and are read by the
// functions that read the file, so that a default can be written into the file
// as it stands in the documentation.
//
// 2026-11-25. limits.head, limits.fields and limits.line cannot be switched off:
// without a bound on a head, one client has as much memory as it likes.
//
// 2026-11-25. What a core is given names no folder of the configuration: in
// Core, Place.File is the last element of the path.
//
// 2026-11-25. The internal certificate of a site "*" has the names by which a
// machine is reached without any DNS, not what each client asks for: whoever asks
// could have as many signatures of the CA as there are names.
//
// 2026-11-25. An app that no site leads to is no part of the plan, only a
// notice: the sandbox of a core lets it reach the sockets of the plan and no others.
//
// 2026-11-25. serve takes a socket relative to the current folder, which a file
// does not: there it would depend on who starts it. With TLS it listens on :8443,
// for https on :8080 is a riddle to a browser and to its user.
//
// 2026-11-25. Between uv and its program stands a shell that sets LISTEN_PID, for
// uv waits for the program instead of becoming it.
//
// 2026-11-25. The folder of an app may be written by a group that is its owner's
// alone, as the home folders of many distributions are.
//
// 2026-11-25. The cores divide the spool: each has its own file and its own
// count, so that a request takes no lock that another process could keep. An
// app's share is a share of each core; while the cores of an older generation end, they
// have theirs beside it. Boot's half of the spool, the folder, is
// in Core too: a core names it to whoever has to make room in it.
package conf
