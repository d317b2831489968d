/* v86lab's guest agent: runs commands for the host over the virtio console port /dev/hvc1.
 *
 * Frames, little-endian, both ways:
 *     u8 0xA5, u8 type, u16 session, u32 length, payload
 * NUL bytes between frames are padding, anything else between frames is skipped up to the next 0xA5.
 * The host re-synchronises with 4096 NUL bytes, which fill up a frame that was cut, and then RESET.
 *
 * Rules kept here:
 *   - One thread, one poll loop; no file descriptor of ours blocks.
 *   - Everything for the host goes through one queue. A child's pipes are read only while the queue has
 *     room for a whole frame, so a slow host holds the children and never the agent.
 *   - A description that does not use up its frame to the byte is refused: a SPAWN that was cut and filled
 *     up with NULs must not run a shortened command.
 *   - When a child ends, what its pipes hold at that moment is sent, then EXIT; a background job that keeps
 *     them open does not hold the session.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0xA5, VERSION = 1 };
enum { RESET = 1, SPAWN_PART, SPAWN, STDIN, STDIN_EOF, SIGNAL, CLOCK, ENTROPY };
enum { HELLO = 65, STARTED, FAILED, STDOUT, STDERR, EXIT, STDIN_ACK };
enum { HEADER = 8, FRAME_IN = 4088, FRAME_OUT = 65536, WINDOW = 65536, DESCRIPTION = 1 << 20, QUEUE = 4 * FRAME_OUT, SMALL = 4096 };

struct session {
	struct session *next;
	uint16_t id;
	pid_t pid;                      /* 0 until it runs */
	int in, out[2];                 /* the child's stdin; its stdout and stderr; -1 when closed */
	int eof;                        /* close stdin when the buffer is empty */
	int ended, status;              /* wait status, once ended */
	int left[2];                    /* after the end: bytes still to be sent */
	char *input;                    /* ring of WINDOW bytes */
	unsigned head, used;
	char *description;
	unsigned described;
};

static struct session *sessions;
static int console, signals;
static sigset_t no_signals;
static char queue[QUEUE];               /* frames on their way to the host: queue[sent .. queued) */
static unsigned sent, queued;

static char *const environment[] = {
	"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
	"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=linux", "LANG=C.UTF-8", NULL,
};

static void put16(char *p, unsigned v) { p[0] = v; p[1] = v >> 8; }
static void put32(char *p, uint32_t v) { put16(p, v); put16(p + 2, v >> 16); }
static uint32_t get32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;
	return u[0] | u[1] << 8 | u[2] << 16 | (uint32_t)u[3] << 24;
}

static void flush(void)
{
	while (sent < queued) {
		ssize_t n = write(console, queue + sent, queued - sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		sent += n;
	}
	if (sent == queued) {
		sent = queued = 0;
	} else if (sent) {
		memmove(queue, queue + sent, queued - sent);
		queued -= sent;
		sent = 0;
	}
}

static unsigned room(void) { return QUEUE - queued; }

static void header(unsigned type, unsigned id, unsigned length)
{
	char *p = queue + queued;
	p[0] = (char)MAGIC;
	p[1] = type;
	put16(p + 2, id);
	put32(p + 4, length);
	queued += HEADER + length;
}

/* Small frames may wait for the host: they answer it, so it is reading. */
static void frame(unsigned type, unsigned id, const void *payload, unsigned length)
{
	while (room() < HEADER + length) {
		struct pollfd p = { console, POLLOUT, 0 };
		flush();
		if (room() < HEADER + length && poll(&p, 1, -1) < 0 && errno != EINTR)
			_exit(1);
	}
	memcpy(queue + queued + HEADER, payload, length);
	header(type, id, length);
}

static void hello(const char *nonce)
{
	char p[12];
	memcpy(p, nonce, 8);
	put32(p + 8, VERSION);
	frame(HELLO, 0, p, sizeof p);
}

static void failed(unsigned id, int error, const char *step)
{
	char p[4 + 16];
	size_t n = strlen(step);
	put32(p, error);
	memcpy(p + 4, step, n);
	frame(FAILED, id, p, 4 + n);
}

static void acknowledge(struct session *s, unsigned bytes)
{
	char p[4];
	put32(p, bytes);
	frame(STDIN_ACK, s->id, p, 4);
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static struct session *find(unsigned id)
{
	struct session *s = sessions;
	while (s && s->id != id)
		s = s->next;
	return s;
}

static struct session *begin(unsigned id)
{
	struct session *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->id = id;
	s->in = s->out[0] = s->out[1] = -1;
	s->next = sessions;
	sessions = s;
	return s;
}

static void forget(struct session *s)
{
	struct session **link = &sessions;
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	shut(&s->in);
	shut(&s->out[0]);
	shut(&s->out[1]);
	free(s->input);
	free(s->description);
	free(s);
}

static void discard(struct session *s)
{
	if (s->pid && !s->ended)
		kill(-s->pid, SIGKILL);
	forget(s);
}

/* ---- starting a child ---- */

struct command {
	const char *cwd;
	char **argv, **envp;
};

static const char *variable(char *const *envp, const char *name)
{
	size_t n = strlen(name);
	for (; *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

/* Later settings replace earlier ones, as in subprocess: the agent's defaults, then the host's. */
static void set_variable(char **envp, char *setting)
{
	char *equals = strchr(setting, '=');
	size_t n = equals ? (size_t)(equals - setting) + 1 : strlen(setting);
	while (*envp && strncmp(*envp, setting, n))
		envp++;
	if (!*envp)
		envp[1] = NULL;
	*envp = setting;
}

/* Cuts the description into strings. Returns 0 when it is not exactly what its counts say. */
static int parse(struct session *s, struct command *c)
{
	char *p = s->description, *end = p + s->described;
	uint32_t argc, envc;
	if (s->described < 8)
		return 0;
	argc = get32(p);
	envc = get32(p + 4);
	p += 8;
	if (!argc || argc > s->described || envc > s->described)
		return 0;
	c->argv = calloc(argc + 1, sizeof *c->argv);
	c->envp = calloc(envc + sizeof environment / sizeof *environment, sizeof *c->envp);
	if (!c->argv || !c->envp)
		return 0;
	memcpy(c->envp, environment, sizeof environment);
	for (uint32_t i = 0; i < 1 + argc + envc; i++) {
		char *nul = memchr(p, 0, end - p);
		if (!nul)
			return 0;
		if (i == 0)
			c->cwd = *p ? p : "/root";
		else if (i <= argc)
			c->argv[i - 1] = p;
		else
			set_variable(c->envp, p);
		p = nul + 1;
	}
	return p == end;
}

static int execute(const struct command *c)
{
	const char *name = c->argv[0], *path = variable(c->envp, "PATH");
	int error = ENOENT;
	char full[4096];
	if (strchr(name, '/')) {
		execve(name, c->argv, c->envp);
		return errno;
	}
	while (*name && path) {
		size_t n = strcspn(path, ":");
		if (n + strlen(name) + 2 <= sizeof full) {
			memcpy(full, path, n);
			full[n] = '/';
			strcpy(full + n + (n > 0), name);
			execve(full, c->argv, c->envp);
			if (errno != ENOENT && errno != ENOTDIR)
				error = errno;
			if (error != ENOENT && error != EACCES)
				break;
		}
		path = path[n] ? path + n + 1 : NULL;
	}
	return error;
}

static void spawn(struct session *s)
{
	struct command c = { 0 };
	volatile int error = 0;         /* the vforked child writes here: it shares our memory until it execs */
	const char *volatile step = "exec";
	int pipes[6] = { -1, -1, -1, -1, -1, -1 };
	pid_t pid;

	if (!parse(s, &c)) {
		error = EINVAL;
		goto out;
	}
	step = "fork";
	for (int i = 0; i < 6; i += 2)
		if (pipe2(pipes + i, O_CLOEXEC) < 0) {
			error = errno;
			goto out;
		}
	pid = vfork();
	if (pid == 0) {
		/* All signals are blocked, and handlers are not shared: nothing of the parent's can run here. */
		signal(SIGPIPE, SIG_DFL);
		setsid();
		if (chdir(c.cwd) < 0) {
			error = errno;
			step = "chdir";
			_exit(127);
		}
		/* Pipes have numbers above 2: init gave us 0, 1 and 2. dup2 drops close-on-exec. */
		dup2(pipes[0], 0);
		dup2(pipes[3], 1);
		dup2(pipes[5], 2);
		sigprocmask(SIG_SETMASK, &no_signals, NULL);
		error = execute(&c);
		step = "exec";
		_exit(127);
	}
	if (pid < 0)
		error = errno;
	if (!error) {
		char p[4];
		s->pid = pid;
		s->in = pipes[1];
		s->out[0] = pipes[2];
		s->out[1] = pipes[4];
		pipes[1] = pipes[2] = pipes[4] = -1;
		fcntl(s->in, F_SETFL, O_NONBLOCK);
		fcntl(s->out[0], F_SETFL, O_NONBLOCK);
		fcntl(s->out[1], F_SETFL, O_NONBLOCK);
		put32(p, pid);
		frame(STARTED, s->id, p, 4);
	}
out:
	for (int i = 0; i < 6; i++)
		shut(&pipes[i]);
	free(c.argv);
	free(c.envp);
	free(s->description);
	s->description = NULL;
	if (error) {
		failed(s->id, error, step);
		forget(s);
	}
}

static struct session *describe(unsigned id, const char *payload, unsigned length)
{
	struct session *s = find(id);
	char *p;
	if (s && s->pid) {              /* the host used the number again: the old session is over */
		discard(s);
		s = NULL;
	}
	if (!s)
		s = begin(id);
	if (!s) {
		failed(id, ENOMEM, "fork");
		return NULL;
	}
	if (s->described + length > DESCRIPTION) {
		failed(id, E2BIG, "exec");
		forget(s);
		return NULL;
	}
	p = realloc(s->description, s->described + length + 1);
	if (!p) {
		failed(id, ENOMEM, "fork");
		forget(s);
		return NULL;
	}
	memcpy(p + s->described, payload, length);
	s->description = p;
	s->described += length;
	return s;
}

/* ---- a running child ---- */

static void close_input(struct session *s)
{
	shut(&s->in);
	if (s->used)
		acknowledge(s, s->used);
	s->used = 0;
	free(s->input);
	s->input = NULL;
}

static void feed(struct session *s)
{
	unsigned written = 0;
	while (s->used) {
		unsigned n = s->used < WINDOW - s->head ? s->used : WINDOW - s->head;
		ssize_t done = write(s->in, s->input + s->head, n);
		if (done < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				s->eof = -1;
			break;
		}
		s->head = (s->head + done) % WINDOW;
		s->used -= done;
		written += done;
	}
	if (written)
		acknowledge(s, written);
	if (s->eof < 0 || (s->eof && !s->used))
		close_input(s);
}

static void input(struct session *s, const char *data, unsigned length)
{
	unsigned tail, first;
	if (s->in >= 0 && !s->input) {
		s->input = malloc(WINDOW);
		s->head = 0;
	}
	if (s->in < 0 || !s->input || length > WINDOW - s->used) {
		acknowledge(s, length);
		return;
	}
	tail = (s->head + s->used) % WINDOW;
	first = length < WINDOW - tail ? length : WINDOW - tail;
	memcpy(s->input + tail, data, first);
	memcpy(s->input, data + first, length - first);
	s->used += length;
	feed(s);
}

/* Sends one frame of what a pipe holds. */
static void forward(struct session *s, int which)
{
	unsigned limit = FRAME_OUT;
	ssize_t n;
	if (s->ended && (unsigned)s->left[which] < limit)
		limit = s->left[which];
	n = limit ? read(s->out[which], queue + queued + HEADER, limit) : 0;
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !s->ended)
		return;
	if (n <= 0) {
		shut(&s->out[which]);
		return;
	}
	s->left[which] -= n;
	header(which ? STDERR : STDOUT, s->id, n);
	if (s->ended && s->left[which] <= 0)
		shut(&s->out[which]);
}

/* Returns 1 when the session is over and gone. */
static int finish(struct session *s)
{
	char p[4];
	for (int i = 0; i < 2; i++)
		while (s->out[i] >= 0) {
			if (room() < HEADER + FRAME_OUT + SMALL)
				flush();
			if (room() < HEADER + FRAME_OUT + SMALL)
				return 0;
			forward(s, i);
		}
	put32(p, WIFSIGNALED(s->status) ? -WTERMSIG(s->status) : WEXITSTATUS(s->status));
	frame(EXIT, s->id, p, 4);
	forget(s);
	return 1;
}

static void reap(void)
{
	struct signalfd_siginfo ignored[8];
	pid_t pid;
	int status;
	while (read(signals, ignored, sizeof ignored) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct session *s = sessions;
		while (s && (s->pid != pid || s->ended))
			s = s->next;
		if (!s)
			continue;
		s->ended = 1;
		s->status = status;
		close_input(s);
		for (int i = 0; i < 2; i++)
			if (s->out[i] >= 0 && ioctl(s->out[i], FIONREAD, &s->left[i]) < 0)
				s->left[i] = 0;
		finish(s);
	}
}

/* ---- the host ---- */

static void set_clock(const char *p)
{
	struct timespec t;
	t.tv_sec = (time_t)(get32(p) | (uint64_t)get32(p + 4) << 32);
	t.tv_nsec = (long)get32(p + 8);
	clock_settime(CLOCK_REALTIME, &t);
}

static void add_entropy(const char *bytes, unsigned length)
{
	struct { int bits, size; char bytes[FRAME_IN]; } pool;
	int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	pool.bits = length * 8;
	pool.size = length;
	memcpy(pool.bytes, bytes, length);
	ioctl(fd, RNDADDENTROPY, &pool);
	ioctl(fd, RNDRESEEDCRNG);
	close(fd);
}

static void handle(unsigned type, unsigned id, const char *payload, unsigned length)
{
	struct session *s = find(id);
	switch (type) {
	case RESET:
		if (length == 8) {
			while (sessions)
				discard(sessions);
			hello(payload);
		}
		break;
	case SPAWN_PART:
		describe(id, payload, length);
		break;
	case SPAWN:
		s = describe(id, payload, length);
		if (s)
			spawn(s);
		break;
	case STDIN:
		if (s && s->pid && length)
			input(s, payload, length);
		break;
	case STDIN_EOF:
		if (s && s->pid && s->in >= 0) {
			s->eof = 1;
			feed(s);
		}
		break;
	case SIGNAL:
		if (s && s->pid && !s->ended && length == 4)
			kill(-s->pid, (int)get32(payload));
		break;
	case CLOCK:
		if (length == 12)
			set_clock(payload);
		break;
	case ENTROPY:
		if (length)
			add_entropy(payload, length);
		break;
	}
}

static void receive(void)
{
	static char data[16384];
	static char partial[HEADER + FRAME_IN];
	static unsigned have;
	ssize_t n = read(console, data, sizeof data);
	const char *p = data, *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		_exit(1);               /* the port is gone; init starts us again */
	end = data + n;
	while (p < end) {
		unsigned want = HEADER, take;
		if (have == 0) {
			p = memchr(p, MAGIC, end - p);
			if (!p)
				return;
		}
		if (have >= HEADER)
			want += get32(partial + 4);
		take = want - have < (unsigned)(end - p) ? want - have : (unsigned)(end - p);
		memcpy(partial + have, p, take);
		p += take;
		have += take;
		if (have < want)
			return;
		if (want == HEADER) {
			unsigned length = get32(partial + 4);
			if (length > FRAME_IN) {        /* not a header: look for the next magic inside it */
				char *next = memchr(partial + 1, MAGIC, HEADER - 1);
				have = next ? partial + HEADER - next : 0;
				if (next)
					memmove(partial, next, have);
				continue;
			}
			if (length)
				continue;
		}
		handle((unsigned char)partial[1], (unsigned char)partial[2] | (unsigned char)partial[3] << 8, partial + HEADER, have - HEADER);
		have = 0;
	}
}

static int open_console(void)
{
	struct termios t;
	struct timespec wait = { 0, 20 * 1000 * 1000 };
	for (int i = 0; i < 100; i++) {         /* ports appear one by one, after the device */
		int fd = open("/dev/hvc1", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0) {
			tcgetattr(fd, &t);
			cfmakeraw(&t);
			t.c_cc[VMIN] = 1;
			t.c_cc[VTIME] = 0;
			tcsetattr(fd, TCSANOW, &t);
			return fd;
		}
		nanosleep(&wait, NULL);
	}
	return -1;
}

static void loop(void)
{
	struct pollfd *polls = NULL;
	unsigned capacity = 0;
	for (;;) {
		unsigned n = 2, needed = 2, free_queue = room() >= HEADER + FRAME_OUT + SMALL;
		struct session *s, *next;

		for (s = sessions; s; s = s->next)
			needed += 3;
		if (needed > capacity) {
			capacity = needed * 2;
			polls = realloc(polls, capacity * sizeof *polls);
			if (!polls)
				_exit(1);
		}
		polls[0] = (struct pollfd){ signals, POLLIN, 0 };
		polls[1] = (struct pollfd){ console, POLLIN | (queued ? POLLOUT : 0), 0 };
		for (s = sessions; s; s = s->next) {
			polls[n++] = (struct pollfd){ s->used ? s->in : -1, POLLOUT, 0 };
			polls[n++] = (struct pollfd){ free_queue ? s->out[0] : -1, POLLIN, 0 };
			polls[n++] = (struct pollfd){ free_queue ? s->out[1] : -1, POLLIN, 0 };
		}
		if (poll(polls, n, -1) < 0 && errno != EINTR)
			_exit(1);

		/* The list changes only below this loop, so polls[] and sessions are in step. */
		n = 2;
		for (s = sessions; s; s = next, n += 3) {
			next = s->next;
			if (polls[n].revents)
				feed(s);
			for (int i = 0; i < 2 && !s->ended; i++) {
				if (room() < HEADER + FRAME_OUT + SMALL)
					flush();
				if (polls[n + 1 + i].revents && s->out[i] >= 0 && room() >= HEADER + FRAME_OUT + SMALL)
					forward(s, i);
			}
			if (s->ended)
				finish(s);
		}
		if (polls[0].revents)
			reap();
		if (polls[1].revents & (POLLIN | POLLERR | POLLHUP))
			receive();
		flush();
	}
}

int main(void)
{
	sigset_t all, child;
	static const char nobody[8];

	console = open_console();
	if (console < 0) {
		sleep(600);             /* no such port on this machine; init starts us again, rarely */
		return 0;
	}
	sigemptyset(&no_signals);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	signals = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals < 0)
		return 1;
	hello(nobody);
	flush();
	loop();
}
