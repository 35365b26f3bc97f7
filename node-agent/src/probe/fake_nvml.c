/* A stand-in for NVIDIA's libnvidia-ml with the C interface of nvml.h: two GPUs, of which the second, like one that is
 * split into instances, doesn't tell its utilization. Built by the tests with cc. */
#include <string.h>

struct memory { unsigned int version; unsigned long long total, reserved, free, used; };
struct pci { char legacy[16]; unsigned int domain, bus, device, pci_device, pci_subsystem; char bus_id[32]; };
struct utilization { unsigned int gpu, memory; };

static int devices[2] = {0, 1};
static int opened;

int nvmlInit_v2(void) { opened++; return 0; }
int nvmlShutdown(void) { opened--; return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return opened > 0 ? 0 : 1; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index > 1) return 2;
    *device = &devices[index];
    return 0;
}

static int text(char *out, unsigned int length, const char *value) {
    if (strlen(value) >= length) return 7;
    strcpy(out, value);
    return 0;
}

int nvmlSystemGetDriverVersion(char *out, unsigned int length) { return text(out, length, "550.54.15"); }
int nvmlDeviceGetName(void *device, char *out, unsigned int length) { (void)device; return text(out, length, "Fake H100"); }

int nvmlDeviceGetUUID(void *device, char *out, unsigned int length) {
    return text(out, length, *(int *)device == 0 ? "GPU-aaaa" : "GPU-bbbb");
}

int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *out) {
    (void)device;
    if (out->version != (sizeof(struct memory) | 2u << 24)) return 25;
    out->total = 85899345920ull; out->reserved = 1024; out->used = 1073741824ull; out->free = out->total - out->used;
    return 0;
}

int nvmlDeviceGetPciInfo_v3(void *device, struct pci *out) {
    memset(out, 0, sizeof *out);
    strcpy(out->legacy, "0000:01:00.0");
    strcpy(out->bus_id, *(int *)device == 0 ? "00000000:01:00.0" : "00000000:02:00.0");
    return 0;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *out) {
    if (*(int *)device == 1) return 3;
    out->gpu = 42; out->memory = 7;
    return 0;
}

int nvmlDeviceGetTemperature(void *device, unsigned int sensor, unsigned int *out) {
    (void)device;
    if (sensor != 0) return 2;
    *out = 61;
    return 0;
}
