/* The bytes of docs/openapi.yaml between two symbols. */
    .section .rodata
    .global weir_openapi_begin
    .global weir_openapi_end
    .hidden weir_openapi_begin
    .hidden weir_openapi_end
weir_openapi_begin:
    .incbin OPENAPI_PATH
weir_openapi_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits
