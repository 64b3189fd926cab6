/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of one software TPM, as its tools print them: docs/protocol/dps-tpm.md 9.2 and 9.3. For tests. */
#ifndef TPM_SAMPLES_H
#define TPM_SAMPLES_H

#define SAMPLE_EK                                                                                  \
    "AToAAQALAAMAsgAgg3GXZ0SEs/"                                                                   \
    "gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAq4YDp2bGLi9Dgx"                         \
    "xPUE/qtHrPYjXlQw0AOfNbSWnKbZYC7nUXMohIV2gyv0PUGjAUvYr4W5WWo/"                                 \
    "0EAV56dP6TFIVA+at2P7vj9jRkTyfo+P3V"                                                           \
    "GWHzAy0YXBODT8fWwF618DY7RkMTNx7jTPOYbB7/od9lyc53/"                                            \
    "awExjHliXSpx4F6YrfTEWPhURFPZ5Zrc6NhHpauDWc2d8"                                                \
    "kOJ7UJokU50NmSUJuLL18dAOohkBDvklt7A1/"                                                        \
    "20bwaIzJT3nvYY+atCDE555OkTZOaDIz0A9c64yrvMnXF5622BO1KsC3+"                                    \
    "kvOFCBcw9AGBG/VtbxbCrwBKYY6EBMAwh+OQGUIJpy1P0Q=="
#define SAMPLE_EK_RID "ej4b43q3dobyp5aggtp4qpm335fo53hkto3oj5xql4mszgn2jg2q"
#define SAMPLE_SRK                                                                                 \
    "ARoAAQALAAMEcgAAAAYAgABDABAIAAAAAAABAKrcYMUYecUprYApsTZDQNEeQejepnSO6dbBIUt7R6dIp0ojXsPtMFCE" \
    "KK"                                                                                           \
    "LFD9v6XPTLzcUlBbpdm12rr5AqmsUBtAySSRVclXzmNfzMLvBFcJEbAj8u4x7jPErf1E+s1QRad95Cj+T+"           \
    "d2PnUne75yMD"                                                                                 \
    "pAbCdc9+fGwmg7J9WBYY1qQRQMbFI2aNYXQfyTfjgQEr2O8yDXHxbeyRGac0ir6XMBWQAHSoiHvddNEU6MTiw81bu/"   \
    "MQx9"                                                                                         \
    "56dwP5NAXIWeiU6iIJVjwlzk04s6rr1mky+wD/5xIMdioFxFJ5hT/"                                        \
    "f6O5RUEKZo9JLGpOEdvKDzBoG5RzOJxQKVLHthlEh"                                                    \
    "7mM="
#define SAMPLE_SRK_NAME "000ba342c2fcfab00cd15d202e6754a3533003f0552a3b2038e339bcd6e51f0c7fbe"

#endif
