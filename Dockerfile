# The program alone, on the Node it is tested with. Build: docker build -t dify-es .
FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Without scripts: the image's own Node is used, not the one that the package `node` would fetch.
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force
COPY bin bin
COPY connectors connectors
COPY src src
USER node
ENTRYPOINT ["/app/bin/dify-es"]
CMD ["--help"]
