/* A CUDA driver and runtime that know some devices and compute nothing: enough for PyTorch's
   guards, streams and autograd threads. gpu.py computes on the CPU above it.
   SIMULATED_GPUS: how many devices there are (1); none where CUDA_VISIBLE_DEVICES is empty. As in CUDA, a process that was forked from one
   that had begun to use it cannot use it any more (error 3). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int Error;
typedef void *Handle;

static int owner;
static __thread int current;

static Error begin(void) {
  if (!owner) owner = getpid();
  return owner == getpid() ? 0 : 3;
}

static int devices(void) {
  const char *number = getenv("SIMULATED_GPUS"), *seen = getenv("CUDA_VISIBLE_DEVICES");
  return seen && !*seen ? 0 : number ? atoi(number) : 1;
}

/* the runtime */
Error cudaGetDeviceCount(int *n) {
  Error error = begin();
  *n = error ? 0 : devices();
  return error ? error : *n ? 0 : 100;
}
Error cudaGetDevice(int *device) { *device = current; return begin(); }
Error cudaSetDevice(int device) {
  if (device >= devices()) return 101;
  current = device;
  return begin();
}
/* the layout of cudaDeviceProp is not worth knowing: a name, and zeros */
Error cudaGetDeviceProperties(void *p, int d) { memset(p, 0, 256); strcpy(p, "Simulated GPU"); return 0; }
Error cudaDeviceGetAttribute(int *value, int which, int d) { *value = which == 75 ? 9 : 0; return 0; }
Error cudaDeviceGetStreamPriorityRange(int *a, int *b) { if (a) *a = 0; if (b) *b = -1; return 0; }
Error cudaDeviceCanAccessPeer(int *can, int a, int b) { *can = 0; return 0; }
Error cudaDeviceSynchronize(void) { return 0; }
Error cudaDriverGetVersion(int *v) { *v = 13000; return 0; }
Error cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }
Error cudaMemGetInfo(size_t *free, size_t *all) { *free = *all = (size_t)80 << 30; return 0; }
Error cudaGetLastError(void) { return 0; }
Error cudaPeekAtLastError(void) { return 0; }
Error cudaEventCreate(Handle *e) { *e = (Handle)1; return 0; }
Error cudaEventCreateWithFlags(Handle *e, unsigned f) { *e = (Handle)1; return 0; }
Error cudaEventDestroy(Handle e) { return 0; }
Error cudaEventElapsedTime(float *ms, Handle a, Handle b) { *ms = 0; return 0; }
Error cudaEventQuery(Handle e) { return 0; }
Error cudaEventRecord(Handle e, Handle s) { return 0; }
Error cudaEventRecordWithFlags(Handle e, Handle s, unsigned f) { return 0; }
Error cudaEventSynchronize(Handle e) { return 0; }
Error cudaStreamCreateWithPriority(Handle *s, unsigned f, int p) { static long n = 16; *s = (Handle)(n++); return 0; }
Error cudaStreamGetCaptureInfo(Handle s, int *status, void *a, void *b, void *c, void *d, void *e) { *status = 0; return 0; }
Error cudaStreamIsCapturing(Handle s, int *status) { *status = 0; return 0; }
Error cudaStreamQuery(Handle s) { return 0; }
Error cudaStreamSynchronize(Handle s) { return 0; }
Error cudaStreamWaitEvent(Handle s, Handle e, unsigned f) { return 0; }
Error cudaThreadExchangeStreamCaptureMode(int *mode) { return 0; }

/* the driver */
Error cuInit(unsigned flags) { return begin(); }
Error cuDriverGetVersion(int *v) { *v = 13000; return 0; }
Error cuDeviceGetCount(int *n) { *n = devices(); return 0; }
Error cuDevicePrimaryCtxGetState(int d, unsigned *f, int *active) { *f = 0; *active = 1; return 0; }
Error cuGetErrorString(Error e, const char **text) { *text = "simulated"; return 0; }
