/* A stand-in for NVIDIA's libnvidia-ml with the C interface of nvml.h. It plays the GPUs that the file `state` beside it tells of, read
 * anew at each call, one fact a line, numbers apart:
 *   count N        so many GPUs, 0 to 8
 *   lost I         GPU I fell off the bus: it keeps its place and answers nothing
 *   gone I         GPU I isn't listed any more
 *   xid I X        the driver reports XID X for GPU I, once
 *   ecc I N        N memory errors that weren't corrected
 *   slow I BITS    slowed down, by NVML's bits
 *   mig I          split into instances: it doesn't tell its utilization
 *   pid I P BYTES  process P computes there
 * Built by the tests with cc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10,
       GPU_IS_LOST = 15, WRONG_VERSION = 25, MAX = 8 };

struct memory { unsigned int version; unsigned long long total, reserved, free, used; };
struct pci { char legacy[16]; unsigned int domain, bus, device, pci_device, pci_subsystem; char bus_id[32]; };
struct utilization { unsigned int gpu, memory; };
struct process { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; };
struct event { void *device; unsigned long long type, data; unsigned int gpu_instance, compute_instance; };

static int devices[MAX] = {0, 1, 2, 3, 4, 5, 6, 7};
static int opened;

static FILE *state(void) {
    Dl_info self;
    char path[4096];
    if (!dladdr((void *)&opened, &self)) return NULL;
    snprintf(path, sizeof path, "%s", self.dli_fname);
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 16, "state");
    return fopen(path, "r");
}

/* The n-th fact of this name about this GPU: its numbers go to a and b. */
static int fact(const char *name, int index, int n, unsigned long long *a, unsigned long long *b) {
    FILE *file = state();
    char line[128], word[16];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        int of = -1;
        unsigned long long first = 0, second = 0;
        int fields = sscanf(line, "%15s %d %llu %llu", word, &of, &first, &second);
        if (fields < 2 || strcmp(word, name) != 0 || (index >= 0 && of != index) || n-- > 0) continue;
        if (a) *a = index >= 0 ? first : (unsigned long long)of;
        if (b) *b = second;
        found = 1;
    }
    if (file) fclose(file);
    return found;
}

static int has(const char *name, int index) { return fact(name, index, 0, NULL, NULL); }
static int id(void *device) { return *(int *)device; }

static int count(void) {
    unsigned long long n = 0;
    return fact("count", -1, 0, &n, NULL) && n <= MAX ? (int)n : 0;
}

/* Answers of a device that is there. */
#define ALIVE(device) do { if (has("lost", id(device))) return GPU_IS_LOST; } while (0)

int nvmlInit_v2(void) { opened++; return OK; }
int nvmlShutdown(void) { opened--; return OK; }

int nvmlDeviceGetCount_v2(unsigned int *out) {
    *out = 0;
    for (int i = 0; i < count(); i++) *out += !has("gone", i);
    return opened > 0 ? OK : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    for (int i = 0; i < count(); i++) {
        if (has("gone", i) || index-- > 0) continue;
        *device = &devices[i];
        return has("lost", i) ? GPU_IS_LOST : OK;
    }
    return INVALID_ARGUMENT;
}

static int text(char *out, unsigned int length, const char *value) {
    if (strlen(value) >= length) return TOO_SMALL;
    strcpy(out, value);
    return OK;
}

int nvmlSystemGetDriverVersion(char *out, unsigned int length) { return text(out, length, "550.54.15"); }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 12040; return OK; }
int nvmlDeviceGetName(void *device, char *out, unsigned int length) { ALIVE(device); return text(out, length, "Fake H100"); }

int nvmlDeviceGetUUID(void *device, char *out, unsigned int length) {
    char uuid[32];
    ALIVE(device);
    snprintf(uuid, sizeof uuid, "GPU-%c%c%c%c", 'a' + id(device), 'a' + id(device), 'a' + id(device), 'a' + id(device));
    return text(out, length, uuid);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    for (int i = 0; i < count(); i++) {
        if (has("gone", i) || strlen(uuid) != 8 || uuid[4] != 'a' + i) continue;
        *device = &devices[i];
        return has("lost", i) ? GPU_IS_LOST : OK;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *out) {
    ALIVE(device);
    if (out->version != (sizeof(struct memory) | 2u << 24)) return WRONG_VERSION;
    out->total = 85899345920ull; out->reserved = 1024; out->used = 1073741824ull; out->free = out->total - out->used;
    return OK;
}

int nvmlDeviceGetPciInfo_v3(void *device, struct pci *out) {
    ALIVE(device);
    memset(out, 0, sizeof *out);
    snprintf(out->legacy, sizeof out->legacy, "0000:%02u:00.0", (id(device) + 1u) % 100u);
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02u:00.0", (id(device) + 1u) % 100u);
    return OK;
}

int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned int *out) { ALIVE(device); *out = 5; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned int *out) { ALIVE(device); *out = 16; return OK; }

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    ALIVE(device);
    *current = *pending = (unsigned int)has("mig", id(device));
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *out) {
    ALIVE(device);
    if (has("mig", id(device))) return NOT_SUPPORTED;
    out->gpu = 42; out->memory = 7;
    return OK;
}

int nvmlDeviceGetTemperature(void *device, unsigned int sensor, unsigned int *out) {
    ALIVE(device);
    if (sensor != 0) return INVALID_ARGUMENT;
    *out = 61;
    return OK;
}

int nvmlDeviceGetTotalEccErrors(void *device, unsigned int error, unsigned int counter, unsigned long long *out) {
    ALIVE(device);
    if (error != 1 || counter != 0) return INVALID_ARGUMENT;
    *out = 0;
    fact("ecc", id(device), 0, out, NULL);
    return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out) {
    ALIVE(device);
    *out = 0;
    fact("slow", id(device), 0, out, NULL);
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *room, struct process *out) {
    unsigned long long pid, used;
    unsigned int n = 0;
    ALIVE(device);
    while (fact("pid", id(device), (int)n, &pid, &used)) {
        if (out && n < *room) out[n] = (struct process){(unsigned int)pid, used, 0, 0};
        n++;
    }
    int fits = n == 0 || (out && n <= *room);
    *room = n;
    return fits ? OK : TOO_SMALL;
}

/* An event set is the number of the GPU that was registered with it. */
static int sets[64], made, told[MAX];

int nvmlEventSetCreate(void **set) {
    if (made == 64) return 999;
    sets[made] = -1;
    *set = &sets[made++];
    return OK;
}

int nvmlEventSetFree(void *set) { (void)set; return OK; }

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    ALIVE(device);
    if (types != 8) return NOT_SUPPORTED;
    *(int *)set = id(device);
    return OK;
}

int nvmlEventSetWait_v2(void *set, struct event *out, unsigned int timeout_ms) {
    int of = *(int *)set;
    unsigned long long xid;
    for (unsigned int waited = 0; waited <= timeout_ms; waited += 10) {
        if (of >= 0 && fact("xid", of, told[of], &xid, NULL)) {
            told[of]++;
            *out = (struct event){&devices[of], 8, xid, 0, 0};
            return OK;
        }
        usleep(10000);
    }
    return TIMEOUT;
}
