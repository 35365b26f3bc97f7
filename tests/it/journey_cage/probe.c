// What a rental may try: run as its first process it attempts escapes, starvation and connections, and prints a line for each.
//
//   probe attack        tries everything; TARGETS="name=address:port …" are connected to; prints END and stays
//   probe connect       connects to TARGETS alone
//   probe listen PORT…  accepts on all addresses, says "hi" to each, until it is killed
//
// A line is: WHAT NAME blocked|SUCCEEDED DETAIL. Nothing here is harmful when it works: it looks and lets go.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int said(const char *what, const char *name, int succeeded, const char *detail) {
    printf("%s %s %s %s\n", what, name, succeeded ? "SUCCEEDED" : "blocked", detail);
    fflush(stdout);
    return succeeded;
}

static int opens(const char *path, int flags) {
    int fd = open(path, flags);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static int writes(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return 0;
    int done = write(fd, text, strlen(text)) > 0;
    close(fd);
    return done;
}

static int sockets(int family, int type, int protocol) {
    int fd = socket(family, type, protocol);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static int unix_connects(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int done = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return done;
}

// ---- privileges
static int extra_capabilities(void) {
    char line[256];
    unsigned long long held = ~0ULL;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) sscanf(line, "CapEff: %llx", &held);
    if (status) fclose(status);
    return (held & ~0xebULL) != 0;
}
static int new_privileges(void) { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1; }
static int setuid_program(void) {
    mkdir("/suid", 0755);
    char copy[] = "/suid/probe";
    int in = open("/probe", O_RDONLY), out = open(copy, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    char buffer[65536];
    for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, got) != got) return 0;
    close(in);
    close(out);
    chmod(copy, 04755);
    if (setgid(65534) || setuid(65534)) return 0;
    pid_t child = fork();
    if (child == 0) {
        execl(copy, copy, "euid", NULL);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

// ---- mounts and roots
static int mount_tmpfs(void) { return mount("none", "/tmp", "tmpfs", 0, "") == 0; }
static int mount_proc(void) { return mount("proc", "/tmp", "proc", 0, "") == 0; }
static int mount_cgroup(void) { return mount("c", "/tmp", "cgroup", 0, "memory") == 0; }
static int mount_disk(void) { return mount("/dev/vda", "/tmp", "ext4", 0, "") == 0; }
static int remount_proc_sys(void) { return mount("", "/proc/sys", "", MS_REMOUNT | MS_BIND, "") == 0; }
static int unmask_kcore(void) { return umount2("/proc/kcore", MNT_DETACH) == 0; }
static int new_mount_api(void) { return syscall(SYS_fsopen, "tmpfs", 0) >= 0; }
static int open_tree_call(void) { return syscall(428, AT_FDCWD, "/", 1) >= 0; }
static int pivot(void) { return syscall(SYS_pivot_root, ".", ".") == 0; }
static int change_root(void) { return chroot("/tmp") == 0; }

// ---- namespaces
static int unshare_user(void) { return unshare(CLONE_NEWUSER) == 0; }
static int unshare_mount(void) { return unshare(CLONE_NEWNS) == 0; }
static int unshare_net(void) { return unshare(CLONE_NEWNET) == 0; }
static int unshare_pid(void) { return unshare(CLONE_NEWPID) == 0; }
static int unshare_cgroup(void) { return unshare(CLONE_NEWCGROUP) == 0; }
static int clone_user(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return pid > 0;
}
static int clone3_user(void) {
    unsigned long long args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, args, sizeof args);
    if (pid == 0) _exit(0);
    return pid > 0;
}
static int enter_namespace(void) { return setns(open("/proc/1/ns/mnt", O_RDONLY), 0) == 0; }

// ---- devices
static int make_device(void) { return mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)) == 0 && opens("/tmp/disk", O_RDONLY); }
static int dev_mem(void) { return opens("/dev/mem", O_RDONLY); }
static int dev_kmsg(void) { return opens("/dev/kmsg", O_RDONLY); }
static int dev_kvm(void) { return opens("/dev/kvm", O_RDWR); }
static int dev_disk(void) { return opens("/dev/vda", O_RDONLY) || opens("/dev/sda", O_RDONLY); }
static int dev_fuse(void) { return opens("/dev/fuse", O_RDWR); }
static int dev_tun(void) { return opens("/dev/net/tun", O_RDWR); }

// ---- /proc and /sys
static int core_pattern(void) { return writes("/proc/sys/kernel/core_pattern", "|/probe"); }
static int sysrq(void) { return opens("/proc/sysrq-trigger", O_WRONLY); }
static int kcore(void) {
    char byte;
    int fd = open("/proc/kcore", O_RDONLY);
    return fd >= 0 && read(fd, &byte, 1) == 1;
}
static int uevent_helper(void) { return writes("/sys/kernel/uevent_helper", "/probe"); }
static int ip_forward(void) { return writes("/proc/sys/net/ipv4/ip_forward", "1"); }
static int release_agent(void) { return opens("/sys/fs/cgroup/memory/release_agent", O_WRONLY) || opens("/sys/fs/cgroup/release_agent", O_WRONLY); }
static int raise_memory(void) {
    return writes("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8589934592") || writes("/sys/fs/cgroup/memory.max", "max");
}
static int efi_variables(void) { return opens("/sys/firmware/efi/efivars", O_RDONLY); }
static int survive_oom(void) { return writes("/proc/self/oom_score_adj", "-1000"); }
static int host_processes(void) {
    char path[64], name[64] = "";
    for (int pid = 1; pid < 40000; pid++) {
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        ssize_t got = read(fd, name, sizeof name - 1);
        close(fd);
        if (got > 0 && strstr(name, "dockerd")) return 1;
    }
    return 0;
}

// ---- system calls that escapes are made of
static int keyctl_call(void) { return syscall(SYS_keyctl, 0, -3, 1) >= 0; }
static int add_key_call(void) { return syscall(SYS_add_key, "user", "x", "y", 1, -3) >= 0; }
static int request_key_call(void) { return syscall(SYS_request_key, "user", "x", NULL, -3) >= 0 || errno == ENOKEY; }
static int io_uring(void) {
    char parameters[256] = {0};
    return syscall(425, 1, parameters) >= 0 || errno == EFAULT || errno == EINVAL;
}
static int bpf_call(void) {
    char attributes[128] = {0};
    return syscall(SYS_bpf, 0, attributes, sizeof attributes) >= 0 || errno == EINVAL;
}
static int perf(void) {
    char attributes[128] = {0};
    return syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0) >= 0 || errno == EINVAL;
}
static int userfault(void) { return syscall(SYS_userfaultfd, 0) >= 0; }
static int by_handle(void) {
    char handle[16] = {8, 0, 0, 0, 1};
    return syscall(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY) >= 0 || errno == ESTALE;
}
static int module_load(void) { return syscall(SYS_init_module, "", 0, "") == 0 || errno == ENOEXEC; }
static int kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, 0) == 0; }
static int restart(void) { return syscall(SYS_reboot, 0xfee1dead, 672274793, 0x89ABCDEF, NULL) == 0; }
static int clock_set(void) {
    struct timeval now;
    gettimeofday(&now, NULL);
    return settimeofday(&now, NULL) == 0;
}
static int host_name(void) { return sethostname("x", 1) == 0; }
static int kernel_log(void) {
    char text[16];
    return klogctl(3, text, sizeof text) >= 0;
}
#ifdef __x86_64__
static int ports(void) { return syscall(SYS_iopl, 3) == 0; }
static int wide_socket(void) {
    unsigned *args = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    args[0] = 40, args[1] = 1, args[2] = 0;
    int answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(102), "b"(1), "c"(args) : "memory");
    return answer >= 0;
}
#endif

// ---- sockets
static int alg(void) { return sockets(38, SOCK_SEQPACKET, 0); }
static int vsock(void) { return sockets(40, SOCK_STREAM, 0); }
static int packet(void) { return sockets(17, SOCK_RAW, 0); }
static int raw(void) { return sockets(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static int docker_socket(void) { return unix_connects("/var/run/docker.sock") || unix_connects("/run/docker.sock"); }
static int containerd_socket(void) { return unix_connects("/run/containerd/containerd.sock"); }

// ---- starvation
static int realtime(void) {
    struct sched_param urgent = {.sched_priority = 50};
    return sched_setscheduler(0, SCHED_FIFO, &urgent) == 0;
}
static int be_first(void) { return setpriority(PRIO_PROCESS, 0, -20) == 0; }
static int lock_memory(void) { return mlock(mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 20) == 0; }
static int more_files(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max = limit.rlim_max + 1;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}
static int open_files(void) {
    int count = 0;
    while (count <= 65536 && open("/", O_RDONLY) >= 0) count++;
    return count > 65536;
}
static int fork_bomb(void) {
    // 1,536 is what a whole processor would give if it counted threads of others; the limit is 1,024
    int count = 0;
    for (; count < 1536; count++) {
        pid_t child = fork();
        if (child < 0) break;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            pause();
            _exit(0);
        }
    }
    signal(SIGTERM, SIG_IGN);
    return count >= 1536;
}
static int memory_hog(void) {
    const size_t step = 16 << 20;
    for (int taken = 0; taken < 64; taken++) {
        char *piece = mmap(0, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED) return 0;
        memset(piece, 1, step);
    }
    return 1;  // 1 GiB of 256 MiB
}
static int fills(const char *path, long mib) {
    static char piece[1 << 20];
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    long written = 0;
    while (fd >= 0 && written < mib && write(fd, piece, sizeof piece) == sizeof piece) written++;
    if (fd >= 0) close(fd);
    unlink(path);
    return written >= mib;
}
// Its disk of 64 MiB: a little fits, or there is none and nothing was tried; more than was ordered doesn't.
static int disk_filler(void) { return !fills("/data/fill", 4) || fills("/data/fill", 65); }
// One file for each 16 KiB of it: 4,096.
static int inode_filler(void) {
    char path[64];
    int count = 0;
    for (; count < 8192; count++) {
        snprintf(path, sizeof path, "/data/%d", count);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        if (fd < 0) break;
        close(fd);
    }
    return count < 16 || count >= 8192;
}
static int fill_tmp(void) { return fills("/tmp/fill", 300); }
static int fill_shm(void) { return fills("/dev/shm/fill", 300); }

struct probe {
    const char *name;
    int (*run)(void);
};
#define P(run) {#run, run}
static const struct probe PROBES[] = {
    P(extra_capabilities), P(new_privileges), P(setuid_program), P(mount_tmpfs), P(mount_proc), P(mount_cgroup), P(mount_disk),
    P(remount_proc_sys), P(unmask_kcore), P(new_mount_api), P(open_tree_call), P(pivot), P(change_root), P(unshare_user), P(unshare_mount),
    P(unshare_net), P(unshare_pid), P(unshare_cgroup), P(clone_user), P(clone3_user), P(enter_namespace), P(make_device), P(dev_mem),
    P(dev_kmsg), P(dev_kvm), P(dev_disk), P(dev_fuse), P(dev_tun), P(core_pattern), P(sysrq), P(kcore), P(uevent_helper), P(ip_forward),
    P(release_agent), P(raise_memory), P(efi_variables), P(survive_oom), P(host_processes), P(keyctl_call), P(add_key_call),
    P(request_key_call), P(io_uring), P(bpf_call), P(perf), P(userfault), P(by_handle), P(module_load), P(kexec), P(restart), P(clock_set),
    P(host_name), P(kernel_log),
#ifdef __x86_64__
    P(ports), P(wide_socket),
#endif
    P(alg), P(vsock), P(packet), P(raw), P(docker_socket), P(containerd_socket), P(realtime), P(be_first), P(lock_memory), P(more_files),
    P(open_files), P(fork_bomb), P(memory_hog), P(fill_tmp), P(fill_shm), P(disk_filler), P(inode_filler),
};

// Each in a process of its own, with its children: what kills it is a way of being blocked.
static void try_probe(const struct probe *probe) {
    pid_t child = fork();
    if (child == 0) {
        setsid();
        _exit(probe->run() ? 77 : 0);
    }
    if (child < 0) {
        said("PROBE", probe->name, 1, "no process left to try it with");
        return;
    }
    int status = 0;
    waitpid(child, &status, 0);
    kill(-child, SIGKILL);
    char detail[64] = "refused";
    if (WIFSIGNALED(status)) snprintf(detail, sizeof detail, "killed by signal %d", WTERMSIG(status));
    said("PROBE", probe->name, WIFEXITED(status) && WEXITSTATUS(status) == 77, detail);
}

// ---- connections
static int connects(const struct addrinfo *to, char *detail, size_t room) {
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), error = 0;
    if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) error = errno;
    if (error == EINPROGRESS) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        socklen_t length = sizeof error;
        error = ETIMEDOUT;
        if (poll(&wait, 1, 1500) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    }
    close(fd);
    snprintf(detail, room, "%s", error ? strerror(error) : "connected");
    // a refusal is an answer: whoever gave it was reached, unless it was this rental's own kernel
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)to->ai_addr;
    int own = to->ai_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    return error == 0 || (error == ECONNREFUSED && !own);
}

static void try_target(char *entry) {
    char *place = strchr(entry, '='), *port = strrchr(entry, ':'), detail[96] = "no address";
    if (!place || !port) return;
    *place++ = 0, *port++ = 0;
    char *address = place;
    char gateway[32] = "";
    if (strcmp(address, "gateway") == 0) {
        char line[256];
        unsigned destination, router;
        FILE *routes = fopen("/proc/net/route", "r");
        while (routes && fgets(line, sizeof line, routes))
            if (sscanf(line, "%*s %x %x", &destination, &router) == 2 && destination == 0)
                inet_ntop(AF_INET, &router, gateway, sizeof gateway);
        address = gateway;
    }
    struct addrinfo *to = NULL, hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    int reached = getaddrinfo(address, port, &hints, &to) == 0 && connects(to, detail, sizeof detail);
    char name[160];
    snprintf(name, sizeof name, "%s %s %s", entry, address, port);
    said("NET", name, reached, detail);
}

static int connect_all(void) {
    char *targets = getenv("TARGETS");
    for (char *entry = targets ? strtok(strdup(targets), " ") : NULL; entry; entry = strtok(NULL, " ")) try_target(strdup(entry));
    printf("END\n");
    fflush(stdout);
    while (pause()) continue;
    return 0;
}

static int attack(void) {
    // first, so that what is said later isn't what the log forgets
    static char line[1024];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 64 << 10; i++)
        if (write(1, line, sizeof line) < 0) break;
    sleep(3);
    for (size_t i = 0; i < sizeof PROBES / sizeof *PROBES; i++) try_probe(&PROBES[i]);
    return connect_all();
}

static int listen_on(int count, char **ports) {
    struct pollfd doors[32];
    for (int i = 0; i < count && i < 32; i++) {
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(ports[i]))};
        int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 64)) return perror("listen"), 1;
        doors[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    printf("LISTENING\n");
    fflush(stdout);
    for (;;) {
        if (poll(doors, count, -1) < 0) return 1;
        for (int i = 0; i < count; i++) {
            if (!(doors[i].revents & POLLIN)) continue;
            int fd = accept(doors[i].fd, NULL, NULL);
            if (fd >= 0 && write(fd, "hi", 2) == 2) shutdown(fd, SHUT_WR);
            close(fd);
        }
    }
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    if (count > 1 && strcmp(words[1], "euid") == 0) return geteuid() == 0 ? 42 : 0;
    if (count > 1 && strcmp(words[1], "attack") == 0) return attack();
    if (count > 1 && strcmp(words[1], "connect") == 0) return connect_all();
    if (count > 2 && strcmp(words[1], "listen") == 0) return listen_on(count - 2, words + 2);
    return 2;
}
