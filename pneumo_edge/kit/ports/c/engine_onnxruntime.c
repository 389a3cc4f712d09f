/* Runs an .onnx file with the C API of ONNX Runtime, whose release has the header and libonnxruntime:

     cc -O2 -DPE_ENGINE -Ionnxruntime/include port.c pneumo_edge.c engine_onnxruntime.c \
       -Lonnxruntime/lib -lonnxruntime -lm -o port

   Only functions of its first version are called, which every later one has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onnxruntime_c_api.h>

#include "engine.h"

static const OrtApi *api;
static OrtSession *session;
static const ONNXTensorElementDataType TYPE = sizeof(pe_element) == sizeof(float) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                              : (pe_element)-1 < 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
                                                                   : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;

static void check(OrtStatus *status) {
  if (status) {
    fprintf(stderr, "error: %s\n", api->GetErrorMessage(status));
    exit(1);
  }
}

void pe_engine_open(const char *path) {
  OrtEnv *env;
  OrtSessionOptions *options;
  api = OrtGetApiBase()->GetApi(1);
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "port", &env));
  check(api->CreateSessionOptions(&options));
  check(api->SetIntraOpNumThreads(options, 1));
  check(api->CreateSession(env, path, options, &session));
}

void pe_engine_run(const pe_element *tensor, float **outputs) {
  static const char *const inputs[] = {PE_INPUT_NAME};
  OrtMemoryInfo *memory;
  OrtValue *image = NULL, *found[PE_OUTPUTS] = {NULL};
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(api->CreateTensorWithDataAsOrtValue(memory, (void *)tensor, PE_TENSOR_SIZE * sizeof(pe_element), PE_SHAPE, 4,
                                            TYPE, &image));
  check(api->Run(session, NULL, inputs, (const OrtValue *const *)&image, 1, PE_GRAPH_OUTPUTS, PE_OUTPUTS, found));
  for (int i = 0; i < PE_OUTPUTS; i++) {
    void *values;
    check(api->GetTensorMutableData(found[i], &values));
    memcpy(outputs[i], values, (size_t)PE_OUTPUT_SIZES[i] * sizeof(float));
    api->ReleaseValue(found[i]);
  }
  api->ReleaseValue(image);
  api->ReleaseMemoryInfo(memory);
}
